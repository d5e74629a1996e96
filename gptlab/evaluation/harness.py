"""Tasks of EleutherAI's lm-evaluation-harness (Gao et al. 2023), an extra of gptlab's."""

import logging
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gptlab.errors import UserError
from gptlab.evaluation.inference import ForwardContext
from gptlab.evaluation.intervals import Z, finite
from gptlab.evaluation.likelihood import Pair, continuations
from gptlab.generation.generator import TextGenerator
from gptlab.heads.protocol import TokenHead

logger = logging.getLogger(__name__)

MAX_NEW_TOKENS = 256  # where a task does not say
N_RESAMPLES = 1000  # for the few metrics whose error has no formula; the harness's own 100,000 take minutes


class HarnessModel(TemplateLM):
    """Answers the harness's three questions: how likely is a continuation, how likely a text, and what comes next."""

    def __init__(self, text_generator: TextGenerator, *, batch_tokens: int, forward_context: ForwardContext) -> None:
        super().__init__()
        self.text_generator, self.batch_tokens, self.forward_context = text_generator, batch_tokens, forward_context
        self._device = text_generator.model.tok_emb.weight.device

    @property
    def eot_token_id(self) -> int:
        """What ends an answer.

        Raises:
            UserError: the tokenizer has no such token.
        """
        if self.text_generator.tokenizer.eot_id is None:
            raise UserError("tasks= needs a tokenizer with <|endoftext|>: tokenizer.end_of_text=true has one")
        return self.text_generator.tokenizer.eot_id

    @property
    def prefix_token_id(self) -> int:
        """What stands where nothing comes before."""
        bos_id = self.text_generator.tokenizer.bos_id
        return self.eot_token_id if bos_id is None else bos_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Ids of a text, begun as the tokenizer begins one unless that is not wanted."""
        bos_id = self.text_generator.tokenizer.bos_id
        begin = [] if bos_id is None or add_special_tokens is False else [bos_id]
        return begin + self.text_generator.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        return [tuple(found) for found in self._likelihoods([(context, ids) for _, context, ids in requests])]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Of whole texts, in windows side by side, each of which begins with the last token of the one before."""
        pairs: list[Pair] = []
        owners: list[int] = []  # the request that each is of
        for number, request in enumerate(requests):
            ids, length = self.tok_encode(request.args[0]), self.text_generator.model.context_length
            windows = get_rolling_token_windows(ids, self.prefix_token_id, max_seq_len=length, context_len=1)
            pairs += [make_disjoint_window(window) for window in windows]
            owners += [number] * (len(pairs) - len(owners))
        sums: defaultdict[int, float] = defaultdict(float)
        for owner, found in zip(owners, self._likelihoods(pairs), strict=True):
            sums[owner] += found.log_prob
        return [sums[number] for number in range(len(requests))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context, up to a stop text."""
        groups: defaultdict[str, list[int]] = defaultdict(list)  # those that are drawn alike go together
        for number, request in enumerate(requests):
            groups[repr(request.args[1])].append(number)
        texts = [""] * len(requests)
        for numbers in groups.values():
            wanted = _sampling(requests[numbers[0]].args[1])
            room = max(1, self.text_generator.model.context_length - wanted["max_new_tokens"])
            prompts = [self.tok_encode(requests[number].args[0])[-room:] for number in numbers]
            with self.forward_context():
                answers = self.text_generator.generate_many(prompts, batch_tokens=self.batch_tokens, changes=wanted)
            for number, text in zip(numbers, answers, strict=True):
                texts[number] = text
        return texts

    def _likelihoods(self, pairs: Sequence[Pair]) -> list[Any]:
        model, head = self.text_generator.model, self.text_generator.head
        assert isinstance(head, TokenHead)
        return continuations(model, head, pairs, batch_tokens=self.batch_tokens, forward_context=self.forward_context)


class Tasks:
    """Tasks by their names, found but not yet run.

    Args:
        tasks: names that the harness knows, or yaml files that describe one.

    Raises:
        UserError: an unknown task.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        files = [Path(task) for task in tasks if Path(task).is_file()]
        self.names = [_name(task) if Path(task).is_file() else task for task in tasks]
        # looking through the thousands that the harness brings takes seconds
        brought = len(files) < len(tasks)
        self.manager = TaskManager(include_path=[file.parent for file in files] or None, include_defaults=brought)
        for name in self.names:
            if name not in self.manager.all_tasks:
                raise UserError(f"tasks: {name} is no task of the lm-evaluation-harness: `lm-eval ls tasks` lists them")

    def __call__(
        self,
        text_generator: TextGenerator,
        batch_tokens: int,
        forward_context: ForwardContext,
        *,
        limit: int | None,
        seed: int,
    ) -> dict[str, dict[str, dict[str, float | None]]]:
        """task -> metric -> value, and low and high of its 95 % interval, None where the harness gives no error.

        Args:
            batch_tokens: read at a time, padding included.
            limit: only the first examples of each task.

        Raises:
            OSError: a task's examples are not here and cannot be downloaded.
        """
        model = HarnessModel(text_generator, batch_tokens=batch_tokens, forward_context=forward_context)
        seeds = {f"{kind}_seed": seed for kind in ("random", "numpy_random", "torch_random", "fewshot_random")}
        try:
            found = simple_evaluate(
                model,
                tasks=self.names,
                limit=limit,
                task_manager=self.manager,
                bootstrap_iters=N_RESAMPLES,
                log_samples=False,
                **seeds,
            )
        except OSError as error:
            raise OSError(
                f"tasks: the examples of {', '.join(self.names)} are not on this machine and cannot be downloaded "
                f"({type(error).__name__}): connect once, or name a yaml file of a task with files of your own"
            ) from error
        return {name: _table(metrics) for name, metrics in found["results"].items()}


def _name(task: str) -> str:
    """As the harness knows it; a file says so itself."""
    found = re.search(r"^task:\s*(\S+)", Path(task).read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise UserError(f"{task} describes no task: it has no line `task: NAME`")
    return found[1].strip("\"'")


def _sampling(wanted: dict[str, Any]) -> dict[str, Any]:
    """The harness's words for how to write -> ours."""
    until = wanted.get("until") or []
    n_most = wanted.get("max_gen_toks") or wanted.get("max_new_tokens") or MAX_NEW_TOKENS
    temperature = float(wanted.get("temperature") or 0.0) if wanted.get("do_sample") else 0.0
    draws = {"top_k": wanted.get("top_k"), "top_p": float(wanted.get("top_p", 1.0)), "min_p": 0.0}
    return {
        "max_new_tokens": int(n_most),
        "temperature": temperature,
        "repetition_penalty": 1.0,
        "stop": [until] if isinstance(until, str) else list(until),
        **draws,
    }


def _table(metrics: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """`{"acc,none": 0.3, "acc_stderr,none": 0.01}` -> `{"acc": {value, low, high}}`"""
    table: dict[str, dict[str, float | None]] = {}
    for key, value in metrics.items():
        name, _, kind = key.partition(",")
        if not kind or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = metrics.get(f"{name}_stderr,{kind}")
        label = name if kind == "none" else f"{name} ({kind})"
        if math.isnan(value):
            logger.warning(f"{label} is left out: the harness found no number for it")
            continue
        low, high = (value - Z * error, value + Z * error) if isinstance(error, float) else (None, None)
        if low is not None and high is not None and _is_share(name, value):
            low, high = max(0.0, low), min(1.0, high)
        table[label] = {"value": finite(float(value)), "low": finite(low), "high": finite(high)}
    return table


def _is_share(metric: str, value: float) -> bool:
    """Of all examples, or of a whole, as accuracies are: no interval of it leaves [0, 1]."""
    return 0 <= value <= 1 and not any(word in metric for word in ("perplexity", "bits", "loss"))
