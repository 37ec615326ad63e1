"""A GGUF file as a teacher: converted, loaded, and asked with the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner import Question
from kpod.stages.model.pretrained import Config as PretrainedConfig
from kpod.stages.model.pretrained import Pretrained
from kpod.stages.teacher.local import Config, Local, TeacherPrompt
from tests.stages.fakes import FakeContext

_WIDTH, _FF, _HEADS, _KEY_HEADS = 32, 48, 4, 2
# transformers 5.23 reads no head width of a Qwen3 from GGUF: it takes the 128 that all of them have.
_HEAD_WIDTH = {"llama": 8, "qwen3": 128}
_BYTES = [chr(number) for number in range(33, 127)] + ["Ġ", "Ċ"]
_TOKENS = ["<|endoftext|>", *_BYTES, "Ġa", "Ġb"]
_QUESTIONS = [
    Question.make(f"Tom has {n} apples", kind="numeric", answer="5", split="train", source="test")
    for n in range(3)
]


def _gguf(path: Path, architecture: str) -> Path:
    """A file of random weights with one layer and a byte vocabulary."""
    import numpy as np
    from gguf import GGUFWriter, TokenType

    head = _HEAD_WIDTH[architecture]
    writer = GGUFWriter(str(path), architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FF)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KEY_HEADS)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(_TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(_TOKENS)
    writer.add_token_types([TokenType.CONTROL, *[TokenType.NORMAL] * (len(_TOKENS) - 1)])
    writer.add_token_merges(["Ġ a", "Ġ b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    draw = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(_TOKENS), _WIDTH), "output": (len(_TOKENS), _WIDTH), "output_norm": (_WIDTH,),
        "blk.0.attn_norm": (_WIDTH,), "blk.0.ffn_norm": (_WIDTH,), "blk.0.attn_q": (_HEADS * head, _WIDTH),
        "blk.0.attn_k": (_KEY_HEADS * head, _WIDTH), "blk.0.attn_v": (_KEY_HEADS * head, _WIDTH),
        "blk.0.attn_output": (_WIDTH, _HEADS * head), "blk.0.ffn_gate": (_FF, _WIDTH),
        "blk.0.ffn_up": (_FF, _WIDTH), "blk.0.ffn_down": (_WIDTH, _FF),
    }  # fmt: skip
    if architecture == "qwen3":
        shapes |= {"blk.0.attn_q_norm": (head,), "blk.0.attn_k_norm": (head,)}
    for name, shape in shapes.items():
        noise = draw.normal(size=shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", noise * 0.3 if len(shape) > 1 else 1 + noise * 0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_gguf_file_writes_rationales_that_no_batch_changes(
    tmp_path: Path, architecture: str
) -> None:
    path = _gguf(tmp_path / "tiny.gguf", architecture)
    source = FakeContext(
        config=PretrainedConfig(gguf=str(path), dtype="fp32"), sources={"gguf": path}, root=tmp_path
    )
    Pretrained().run(source)
    found = []
    for batch_tokens in (1, 4096):
        ctx = FakeContext(
            config=Config(
                max_new_tokens=6, precision="fp32", batch_tokens=batch_tokens,
                prompt=TeacherPrompt(template="Q: {question} A:"),
            ),
            inputs={"questions": _QUESTIONS}, models={"model": source.folders["model"]},
        )  # fmt: skip
        Local().run(ctx)
        found.append(ctx.rows("rationales"))

    assert found[0] == found[1]
    assert [row.question_id for row in found[0]] == [question.id for question in _QUESTIONS]
    assert any(row.text for row in found[0])
