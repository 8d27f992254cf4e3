"""No setting is accepted and ignored.

The type checker is asked: with every setting's name changed in a copy of the code, each place that
reads one is an error that names the section and the setting. What no such error names is read nowhere.
What the settings of training do is asserted by `training/test_knobs.py`.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mypy import api

from reelmill import config
from reelmill.config import Expectation, Generate, Params, Section, TextEncoder

ROOT = Path(__file__).parent.parent
RULES = ("config.py", "rules.py")  # to check a setting is not to use it
READ_BY_NAME = {  # (section, setting): where, for what the type checker does not see
    **{(Expectation, name): "data/validation.py: asdict of each expectation" for name in ("level", "min", "max")},
    **{
        (Generate, name): "stages/generate.py: the pipeline's arguments"
        for name in ("num_inference_steps", "guidance_scale")
    },
    **{(TextEncoder, name): "config.py: Params.text_source, for the stages" for name in ("source", "subfolder")},
}
# As little of pydantic as the type checker needs to tell a setting from a mistake; reading it all takes ten times as long.
PYDANTIC = """
from typing import Any
class BaseModel:
    model_fields: Any
    model_config: Any
    def model_dump(self, **options: Any) -> dict[str, Any]: ...
    def model_dump_json(self) -> str: ...
    def model_copy(self, **options: Any) -> Any: ...
    @classmethod
    def model_validate(cls, value: Any) -> Any: ...
    @classmethod
    def model_validate_json(cls, value: str) -> Any: ...
class ValidationError(Exception):
    def errors(self) -> Any: ...
def __getattr__(name: str) -> Any: ...
"""
MYPY = """
[mypy]
mypy_path = src
ignore_missing_imports = true
follow_imports = skip
check_untyped_defs = true
"""


def test_every_setting_is_read_somewhere_beside_the_rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _copy_with_renamed_settings(tmp_path)
    faults, complaint, _ = api.run(
        ["--config-file", "mypy.ini", "--cache-dir", "none", "src/reelmill", "src/pydantic.pyi", "stages", "flows"]
    )
    assert not complaint
    read = {
        (section, name)
        for path, section, name in re.findall(r'^(\S+?):\d+: error: "(\w+)" has no attribute "(\w+)"', faults, re.M)
        if not path.endswith(RULES)
    }
    assert len(read) > 100  # the checker was at work
    ours = {(section.__name__, name) for section in _sections() for name in _settings(section)}
    assert ours - read == {(section.__name__, name) for section, name in READ_BY_NAME}


def test_what_is_read_by_name_is():
    validation = (ROOT / "src/reelmill/data/validation.py").read_text()
    assert all(f"item.{name}" in validation for name in ("level", "min", "max"))
    assert '"num_inference_steps", "guidance_scale"' in (ROOT / "stages/generate.py").read_text()


def _copy_with_renamed_settings(target: Path) -> None:
    for folder in ("src", "stages", "flows"):
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (target / "src/pydantic.pyi").write_text(PYDANTIC)
    (target / "mypy.ini").write_text(MYPY)
    path = target / "src/reelmill/config.py"
    text = path.read_text()
    for section in _sections():
        for name in _settings(section):
            text = re.sub(rf"^    {name}: ", f"    renamed_{name}: ", text, flags=re.M)
    path.write_text(text)


def _sections() -> list[type[Section]]:
    return [value for value in vars(config).values() if isinstance(value, type) and issubclass(value, Section)]


def _settings(section: type[Section]) -> list[str]:
    """The settings that hold values; those that hold sections stay, so that the way to the values stays typed."""
    return [name for name, field in section.model_fields.items() if "reelmill.config" not in str(field.annotation)]


def leaves(section: type[Section], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a section's settings."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_dotted_keys_are_those_of_the_file():
    keys = set(leaves(Params))
    assert {"train.loss.mse", "model.text_encoder.width", "data.expectations.motion.level"} <= keys
