"""The base of ``benchmarks.moe`` where none is given: tokenizer and Llama of about 5 M parameters, from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate.utils import extract_model_from_parallel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from moe.sets.chat import Chat, Example
from moe.settings import Schedule
from moe.training.trainer import fit_causal
from scorer.dialogue import Dialogue

VOCABULARY = 4096
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
PRETRAINING = Schedule(learning_rate=2e-3, epochs=1, batch_size=16, max_length=192, held_out=0, checkpointing=False)


def pretrain(texts: Sequence[Dialogue], output: Path, seed: int) -> None:
    """Train tokenizer and model on dialogues, and write them to ``output``; the loss covers every token."""
    tokenizer = train_tokenizer(texts)
    chat = Chat(tokenizer, PRETRAINING.max_length)
    encoded = [chat.example(dialogue) for dialogue in texts]
    whole = [Example(one.ids, 1, one.conversation, 0) for one in encoded if isinstance(one, Example)]
    set_seed(seed)
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=2, **SIZES)
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    print(f"pretraining {model.num_parameters() / 1e6:.1f} M parameters on {len(whole)} dialogues", flush=True)
    fit_causal(model, whole, [], replace(PRETRAINING, seed=seed), output.with_name("pretraining"), chat.pad_id)
    extract_model_from_parallel(model, keep_fp32_wrapper=False)
    model.config.use_cache = True
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def train_tokenizer(texts: Sequence[Dialogue]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of these dialogues."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    spoken = (f"{turn.role.capitalize()}: {turn.content}\n" for dialogue in texts for turn in dialogue.turns)
    tokenizer.train_from_iterator(spoken, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    )
