"""The page that `python train.py --help` prints."""

from pathlib import Path
from string import Template

from omegaconf import OmegaConf

from gptlab.storage.places import conf_dir

NOT_LISTED = ("hydra", "local")  # folders of conf that are not groups to choose from


def manual() -> str:
    """Return the help page with all groups.

    Hydra itself would take a second to list them.
    """
    conf = conf_dir()
    page = OmegaConf.create({"hydra": {"help": OmegaConf.load(conf / "hydra" / "help" / "gptlab.yaml")}}).hydra.help
    return Template(page.template).substitute(APP_CONFIG_GROUPS=_groups(conf))


def _groups(conf: Path) -> str:
    """Return each group and its choices, line by line."""
    folders = sorted({file.parent.relative_to(conf) for file in conf.glob("*/**/*.yaml")})
    lines = [
        f"{folder.as_posix()}: {', '.join(sorted(file.stem for file in (conf / folder).glob('*.yaml')))}"
        for folder in folders
        if folder.parts[0] not in NOT_LISTED
    ]
    return "".join(line + "\n" for line in lines)
