"""What `python train.py --help` prints."""

from pathlib import Path
from string import Template

from omegaconf import OmegaConf

from gptlab.storage.places import conf_dir

NO_CHOICE = ("hydra", "local")  # folders of conf that are chosen by themselves


def manual() -> str:
    """The text of conf/hydra/help, with the configuration groups as they are; Hydra takes a second to list them."""
    conf = conf_dir()
    page = OmegaConf.create({"hydra": {"help": OmegaConf.load(conf / "hydra" / "help" / "gptlab.yaml")}}).hydra.help
    return Template(page.template).substitute(APP_CONFIG_GROUPS=_groups(conf))


def _groups(conf: Path) -> str:
    """A line a group: its name and its choices."""
    folders = sorted({file.parent.relative_to(conf) for file in conf.glob("*/**/*.yaml")})
    lines = [
        f"{folder.as_posix()}: {', '.join(sorted(file.stem for file in (conf / folder).glob('*.yaml')))}"
        for folder in folders
        if folder.parts[0] not in NO_CHOICE
    ]
    return "".join(line + "\n" for line in lines)
