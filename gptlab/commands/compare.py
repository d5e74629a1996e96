"""gptlab compare 'run=[a, b]': models side by side.

The report lists what differs, and whether the losses differ significantly.
"""

import json
from typing import TYPE_CHECKING, Any

from gptlab.commands.errors import report_errors
from gptlab.config.plain import Config, keywords
from gptlab.workflows.run_choice import compose_with_run

if TYPE_CHECKING:
    from gptlab.evaluation.compare import ModelResult
    from gptlab.run import Run


def main(overrides: list[str]) -> None:
    """Measure one model after the other, and compare them."""
    with report_errors():
        cfg = compose_with_run("compare", overrides)

        import rich

        from gptlab.evaluation.compare import compare, show_comparison
        from gptlab.run import Run
        from gptlab.workflows.compare import check_paths
        from gptlab.workflows.precision import choose_device
        from gptlab.workflows.run_data import config_of, running_text

        check_paths(cfg.run)
        device, data, prompts, models = choose_device(cfg.device), cfg.data, list(cfg.prompts), []
        for path in cfg.run:
            run = Run.open(path, device=device)
            text = running_text(run, data, cfg.split, context_length=cfg.context_length)
            data = config_of(run, data)  # all models are measured on the first one's data
            prompts = prompts or [text.first_words()]
            models.append(_examined(run, cfg, text, prompts, path))
        report = compare(models, prompts, seed=cfg.seed)
        if cfg.output == "json":
            print(json.dumps(report, indent=2, ensure_ascii=False))
        else:
            show_comparison(report, rich.get_console())


def _examined(run: "Run", cfg: Config, text: Any, prompts: list[str], path: str) -> "ModelResult":
    from gptlab.assembly.parts import count_parameters
    from gptlab.evaluation.compare import examine_model
    from gptlab.workflows.compare import comparable_config
    from gptlab.workflows.precision import set_precision

    return examine_model(
        run.text_generator,
        text.windows,
        prompts,
        name=path,
        config=comparable_config(run),
        n_parameters=count_parameters(run),
        batch_tokens=cfg.batch_tokens,
        seed=cfg.seed,
        sampling=keywords(cfg.sampling),
        forward_context=set_precision(run, cfg.precision).context,
    )
