"""Teacher-forced batches and the parts of a model: targets stand where their logits are, padding counts for nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kpod.runner import StageError
from kpod.stages._lm.parts import Parts, take_apart
from kpod.stages._lm.passages import Batch, EncoderIds, Passage, pad

CPU = torch.device("cpu")
ONE = Passage((5, 6, 7), (8, 9, 1), (0.5, 1.0, 1.0))
TWO = Passage((4,), (3, 2, 8, 6, 1), (1.0, 0.25, 0.0, 1.0, 1.0))


def causal(architecture: str = "Qwen3") -> Any:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, intermediate_size=32, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return getattr(transformers, f"{architecture}ForCausalLM")(config).eval()


def t5(*, is_tied: bool) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0,
        eos_token_id=1, pad_token_id=0, initializer_factor=0.5, feed_forward_proj="gated-gelu",
        tie_word_embeddings=is_tied, dropout_rate=0.5,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval()


MODELS = {
    "qwen3": causal,
    "llama": lambda: causal("Llama"),
    "t5": lambda: t5(is_tied=False),
    "t5, tied": lambda: t5(is_tied=True),
}
each_model = pytest.mark.parametrize("name", MODELS)


def logits_of(parts: Parts, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return parts.head(parts.hidden(batch))


def plain_logits(model: Any, passage: Passage) -> torch.Tensor:
    """What transformers gives for one sequence, at the places that predict its targets."""
    given, said = list(passage.context_ids), list(passage.target_ids)
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            labels = model(input_ids=torch.tensor([[*given, 1]]), labels=torch.tensor([said]))
            return labels.logits[0]
        return model(input_ids=torch.tensor([given + said])).logits[0, len(given) - 1 : -1]


def test_statement_26_a_decoder_reads_context_and_targets_and_shifts_once() -> None:
    batch = pad([ONE, TWO], device=CPU)

    assert batch.inputs.tolist() == [[5, 6, 7, 8, 9, 1], [4, 3, 2, 8, 6, 1]]
    # The state before each target predicts it: 7 -> 8, 8 -> 9, 9 -> end.
    assert batch.positions.tolist() == [2, 3, 4, 6, 7, 8, 9, 10]
    assert batch.targets.tolist() == [8, 9, 1, 3, 2, 8, 6, 1]
    assert batch.weights.tolist() == [0.5, 1.0, 1.0, 1.0, 0.25, 0.0, 1.0, 1.0]
    assert batch.encoder_inputs is None
    assert batch.encoder_mask is None
    assert batch.num_computed == 12


def test_statement_26_an_encoder_decoder_reads_the_context_apart_and_shifts_nothing() -> None:
    batch = pad([ONE, TWO], device=CPU, encoder=EncoderIds(start=0, end=1))

    assert batch.encoder_inputs is not None
    assert batch.encoder_mask is not None
    assert batch.encoder_inputs.tolist() == [[5, 6, 7, 1], [4, 1, 0, 0]]
    assert batch.encoder_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch.inputs.tolist() == [[0, 8, 9, 0, 0], [0, 3, 2, 8, 6]]
    assert batch.positions.tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert batch.targets.tolist() == [8, 9, 1, 3, 2, 8, 6, 1]
    assert batch.num_computed == 18


@each_model
def test_statement_26_logits_stand_where_their_targets_stand(name: str) -> None:
    model = MODELS[name]()
    parts = take_apart(model, precision="fp32", probe_ids=(5, 6, 7))
    expected = torch.cat([plain_logits(model, passage) for passage in (ONE, TWO)])

    actual = logits_of(parts, pad([ONE, TWO], device=CPU, encoder=parts.encoder))
    assert torch.allclose(actual, expected, atol=1e-5)
    assert (parts.encoder is None) == (not name.startswith("t5"))


@each_model
def test_statement_26_and_mistake_8_1_12_what_stands_in_the_padding_changes_nothing(
    name: str,
) -> None:
    parts = take_apart(MODELS[name](), precision="fp32", probe_ids=(5, 6, 7))
    short = Passage((9,), (3, 1), (1.0, 1.0))
    batch = pad([ONE, TWO, short], device=CPU, encoder=parts.encoder)
    expected = logits_of(parts, batch)
    read = torch.zeros(batch.inputs.numel(), dtype=torch.bool)
    width = batch.inputs.shape[1]
    for row, passage in enumerate((ONE, TWO, short)):
        length = len(passage.target_ids) if parts.encoder else passage.num_tokens
        read[row * width : row * width + length] = True
    batch.inputs.view(-1)[~read] = 33
    if batch.encoder_inputs is not None and batch.encoder_mask is not None:
        batch.encoder_inputs[batch.encoder_mask == 0] = 33

    assert not bool(read.all())
    assert torch.allclose(logits_of(parts, batch), expected, atol=1e-5)


@each_model
def test_statement_26_the_end_token_is_a_target_and_gets_a_gradient(name: str) -> None:
    model = MODELS[name]()
    parts = take_apart(model, precision="fp32", probe_ids=(5, 6, 7))
    batch = pad([ONE], device=CPU, encoder=parts.encoder)
    loss = torch.nn.functional.cross_entropy(parts.head(parts.hidden(batch)), batch.targets)
    loss.backward()

    assert batch.targets.tolist()[-1] == 1
    gradient = parts.output_layer.weight.grad
    assert float(gradient[1].abs().max()) > 0


def test_taking_apart_leaves_the_mode_and_finds_the_scale() -> None:
    for is_tied, scale in ((True, 16**-0.5), (False, 1.0)):
        model = t5(is_tied=is_tied).train()
        parts = take_apart(model, precision="fp32", probe_ids=(5, 6))
        assert parts.scale == scale
        assert model.training


def test_taking_apart_sees_through_an_adapter() -> None:
    from peft import LoraConfig, get_peft_model

    adapted: Any = get_peft_model(
        causal(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    parts = take_apart(adapted, precision="fp32", probe_ids=(5, 6))
    batch = pad([ONE], device=CPU)
    with torch.no_grad():
        expected = adapted(input_ids=batch.inputs).logits[0, 2:5]

    assert torch.allclose(logits_of(parts, batch), expected, atol=1e-5)


def test_a_model_that_changes_its_logits_afterwards_is_refused() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, intermediate_size=32, initializer_range=1.0, final_logit_softcapping=1.0,
    )  # fmt: skip
    with pytest.raises(StageError) as raised:
        take_apart(Gemma2ForCausalLM(config).eval(), precision="fp32", probe_ids=(5, 6))

    assert str(raised.value) == (
        "Gemma2ForCausalLM changes its logits after the output layer, which kpod's losses leave out\n"
        "allowed: architectures with a plain output layer, such as Qwen2, Qwen3, Llama, Mistral, T5"
    )


def test_preparing_that_changes_the_logits_is_refused_and_nan_is_left_to_who_reads_them() -> None:
    def spoil(model: Any) -> None:
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(2.0)

    with pytest.raises(StageError, match="gives other logits with kpod's faster norms"):
        take_apart(causal(), precision="fp32", probe_ids=(5, 6), prepare=spoil)

    broken = causal()
    with torch.no_grad():
        broken.get_output_embeddings().weight[3] = float("nan")
    assert take_apart(broken, precision="fp32", probe_ids=(5, 6)).scale == 1.0
