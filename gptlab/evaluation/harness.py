"""Tasks of EleutherAI's lm-evaluation-harness (Gao et al. 2023).

The harness is an optional dependency. Only its public API is used.
"""

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

from gptlab.errors import UnusablePathError, UserError
from gptlab.evaluation.intervals import Z, finite
from gptlab.evaluation.likelihood import Pair, score_continuations
from gptlab.generation.generator import TextGenerator
from gptlab.hardware.precision import ForwardContext
from gptlab.heads.protocol import TokenHead

logger = logging.getLogger(__name__)

MAX_NEW_TOKENS = 256  # for tasks that set no limit
N_RESAMPLES = 1000  # for metrics without a formula for the error; the harness's default of 100,000 takes minutes


class HarnessModel(TemplateLM):
    """Adapter of a text generator to the harness's model interface."""

    def __init__(self, text_generator: TextGenerator, *, batch_tokens: int, forward_context: ForwardContext) -> None:
        super().__init__()
        self.text_generator, self.batch_tokens, self.forward_context = text_generator, batch_tokens, forward_context
        self._device = text_generator.model.tok_emb.weight.device

    @property
    def eot_token_id(self) -> int:
        """Return the id of the end-of-text token.

        Raises:
            UserError: the tokenizer has no end-of-text token.
        """
        if self.text_generator.tokenizer.eot_id is None:
            raise UserError("tasks= needs a tokenizer with <|endoftext|>: train with tokenizer.end_of_text=true")
        return self.text_generator.tokenizer.eot_id

    @property
    def prefix_token_id(self) -> int:
        """Return the id that stands before the first token."""
        bos_id = self.text_generator.tokenizer.bos_id
        return self.eot_token_id if bos_id is None else bos_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Encode a text, with BOS unless unwanted."""
        bos_id = self.text_generator.tokenizer.bos_id
        prefix = [] if bos_id is None or add_special_tokens is False else [bos_id]
        return prefix + self.text_generator.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        return [tuple(likelihood) for likelihood in self._likelihoods([(context, ids) for _, context, ids in requests])]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log probability of each whole text.

        A text is read in disjoint windows; each has the last token of the window before as context.
        """
        pairs: list[Pair] = []
        owners: list[int] = []  # number of the request of each pair
        for number, request in enumerate(requests):
            ids, length = self.tok_encode(request.args[0]), self.text_generator.model.context_length
            windows = get_rolling_token_windows(ids, self.prefix_token_id, max_seq_len=length, context_len=1)
            pairs += [make_disjoint_window(window) for window in windows]
            owners += [number] * (len(pairs) - len(owners))
        sums: defaultdict[int, float] = defaultdict(float)
        for owner, likelihood in zip(owners, self._likelihoods(pairs), strict=True):
            sums[owner] += likelihood.log_prob
        return [sums[number] for number in range(len(requests))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the text generated after each context."""
        groups: defaultdict[str, list[int]] = defaultdict(list)  # requests with equal sampling are generated together
        for number, request in enumerate(requests):
            groups[repr(request.args[1])].append(number)
        texts = [""] * len(requests)
        for numbers in groups.values():
            sampling = _sampling(requests[numbers[0]].args[1])
            max_prompt = max(1, self.text_generator.model.context_length - sampling["max_new_tokens"])
            whole = [self.tok_encode(requests[number].args[0]) for number in numbers]
            _warn_of_cut([len(ids) for ids in whole], max_prompt)
            prompts = [ids[-max_prompt:] for ids in whole]
            with self.forward_context():
                answers = self.text_generator.generate_many(prompts, batch_tokens=self.batch_tokens, changes=sampling)
            for number, answer in zip(numbers, answers, strict=True):
                texts[number] = answer.text
        return texts

    def _likelihoods(self, pairs: Sequence[Pair]) -> list[Any]:
        model, head = self.text_generator.model, self.text_generator.head
        assert isinstance(head, TokenHead)
        _warn_of_cut([len(context) + len(ids) - 1 for context, ids in pairs], model.context_length)
        return score_continuations(
            model, head, pairs, batch_tokens=self.batch_tokens, forward_context=self.forward_context
        )


class Tasks:
    """Tasks of the harness, found by name and ready to run.

    Args:
        tasks: names of the harness's tasks, or yaml files that each describe one.

    Raises:
        UserError: a task is unknown.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        files = [Path(task) for task in tasks if Path(task).is_file()]
        self.names = [_name(task) if Path(task).is_file() else task for task in tasks]
        # indexing the harness's own tasks, thousands of files, takes seconds
        needs_defaults = len(files) < len(tasks)
        self.manager = TaskManager(
            include_path=[file.parent for file in files] or None, include_defaults=needs_defaults
        )
        for name in self.names:
            if name not in self.manager.all_tasks:
                raise UserError(
                    f"tasks: {name} is not a task of the lm-evaluation-harness: choose one of `lm-eval ls tasks`"
                )

    def __call__(
        self,
        text_generator: TextGenerator,
        batch_tokens: int,
        forward_context: ForwardContext,
        *,
        limit: int | None,
        seed: int,
    ) -> dict[str, dict[str, dict[str, float | None]]]:
        """Run the tasks and return their metrics.

        The result maps task -> metric -> value, low and high. The last two are the ends of the 95 % interval, None if
        the harness gives no standard error.

        Args:
            batch_tokens: tokens read at a time, padding included.
            limit: number of examples per task, the first ones; None is all.

        Raises:
            OSError: a task's examples are not on this machine and cannot be downloaded.
        """
        model = HarnessModel(text_generator, batch_tokens=batch_tokens, forward_context=forward_context)
        seeds = {f"{kind}_seed": seed for kind in ("random", "numpy_random", "torch_random", "fewshot_random")}
        try:
            output = simple_evaluate(
                model,
                tasks=self.names,
                limit=limit,
                task_manager=self.manager,
                bootstrap_iters=N_RESAMPLES,
                log_samples=False,
                **seeds,
            )
        except OSError as error:
            raise UnusablePathError(
                f"tasks: the examples of {', '.join(self.names)} are not on this machine and cannot be downloaded "
                f"({type(error).__name__}): connect once, or name a yaml file of a task with files of your own"
            ) from error
        return {name: _table(metrics) for name, metrics in output["results"].items()}


def _warn_of_cut(lengths: Sequence[int], n_most: int) -> None:
    """Log how many requests are longer than the model reads."""
    if n_cut := sum(length > n_most for length in lengths):
        logger.warning(
            f"{n_cut:,} of {len(lengths):,} requests have more than {n_most:,} tokens, the longest {max(lengths):,}: "
            "they are cut at the beginning"
        )


def _name(task: str) -> str:
    """Return the task name that a yaml file defines."""
    match = re.search(r"^task:\s*(\S+)", Path(task).read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise UserError(f"{task} describes no task: it has no line `task: NAME`")
    return match[1].strip("\"'")


def _sampling(arguments: dict[str, Any]) -> dict[str, Any]:
    """Translate the harness's generation arguments into sampling changes.

    As through transformers, the model's own repetition penalty holds unless the task sets one.
    """
    until = arguments.get("until") or []
    max_new_tokens = arguments.get("max_gen_toks") or arguments.get("max_new_tokens") or MAX_NEW_TOKENS
    temperature = float(arguments.get("temperature") or 0.0) if arguments.get("do_sample") else 0.0
    penalty = (
        {"repetition_penalty": float(arguments["repetition_penalty"])} if "repetition_penalty" in arguments else {}
    )
    draws = {"top_k": arguments.get("top_k"), "top_p": float(arguments.get("top_p", 1.0)), "min_p": 0.0}
    return {
        "max_new_tokens": int(max_new_tokens),
        "temperature": temperature,
        "stop": [until] if isinstance(until, str) else list(until),
        **draws,
        **penalty,
    }


def _table(metrics: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """Turn `{"acc,none": 0.3, "acc_stderr,none": 0.01}` into `{"acc": {value, low, high}}`."""
    table: dict[str, dict[str, float | None]] = {}
    for key, value in metrics.items():
        name, _, kind = key.partition(",")
        if not kind or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = metrics.get(f"{name}_stderr,{kind}")
        label = name if kind == "none" else f"{name} ({kind})"
        if math.isnan(value):
            logger.warning(f"{label} is left out: the harness returned nan")
            continue
        low, high = (value - Z * error, value + Z * error) if isinstance(error, float) else (None, None)
        if low is not None and high is not None and _is_share(name, value):
            low, high = max(0.0, low), min(1.0, high)
        table[label] = {"value": finite(float(value)), "low": finite(low), "high": finite(high)}
    return table


def _is_share(metric: str, value: float) -> bool:
    """Return whether a metric lies in [0, 1], as accuracies do."""
    return 0 <= value <= 1 and not any(word in metric for word in ("perplexity", "bits", "loss"))
