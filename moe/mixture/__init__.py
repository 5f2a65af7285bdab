"""Experts -> one mixture, tensor by tensor."""
