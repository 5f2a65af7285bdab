"""No URL that is shown or written holds a password or a signature, and what is left says which URL it was."""

from __future__ import annotations

import pytest

from scorer.errors import EmpathyError, InputError, reason_of, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hunter2@host/a.jsonl", "https://***@host/a.jsonl"),
        ("https://h/a.jsonl?X-Amz-Signature=hunter2&x=1", "https://h/a.jsonl?***"),
        ("HTTPS://me:hunter2@h:8080/a?hunter2: cannot be read", "HTTPS://***@h:8080/a?***: cannot be read"),
        ("zip://a.csv::https://me:hunter2@h/b.zip?sig=hunter2", "zip://a.csv::https://***@h/b.zip?***"),
        ("ftp://hunter2@host/a", "ftp://***@host/a"),
        ("sftp://me:hunter/hunter2@host/a", "sftp://***@host/a"),
        ("https://me:hunt@hunter2@host/a", "https://***@host/a"),
        ("az://box/a?sig=hunter2", "az://box/a?***"),
        ("message='Not Found', url='https://h/a?t=hunter2'", "message='Not Found', url='https://h/a?***'"),
        ("https://h/a#hunter2, https://h/b", "https://h/a?***, https://h/b"),
        ("s3://data/part-?/a*.jsonl", "s3://data/part-?/a*.jsonl"),
        ("https://h:80/@user/a.jsonl: 404", "https://h:80/@user/a.jsonl: 404"),
        ("why? me@home.org: a/b?c=d", "why? me@home.org: a/b?c=d"),
    ],
)
def test_secrets_are_stripped_from_urls_and_only_they(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert str(EmpathyError(text)) == str(InputError(text)) == shown
    assert reason_of(ValueError(text)) == shown
