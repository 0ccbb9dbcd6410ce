"""Every block of every page is executed, or is in a language that is for reading only."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.tools.docs.fences import fences
from tests.tools.docs.running import NOT_RUN, ROOT, PageRun, Products, extras
from tests.tools.docs.settings import ON_SERVERS, SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

PAGES = {path.name: path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}


def test_every_page_has_a_setting() -> None:
    assert sorted(SETTINGS) == sorted(PAGES), "tests/tools/docs/settings.py"


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Products:
    return Products(tmp_path_factory.mktemp("products"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.servers if name in ON_SERVERS else ())
        for name in sorted(PAGES)
    ],
)
def test_the_examples_of_a_page_run(
    name: str,
    made: Path,
    products: Products,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    setting = SETTINGS[name]
    for file in setting.files:
        copy = shutil.copytree if (made / file).is_dir() else shutil.copyfile
        copy(made / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = PageRun(
        monkeypatch,
        products,
        setting.exact,
        setting.varying,
        dict(setting.also),
        dict(setting.patient),
    )
    for said in setting.patient:
        assert said in PAGES[name].read_text(encoding="utf-8"), said
    waiting = dict(setting.at)
    with ExitStack() as stack:
        for fence in fences(PAGES[name]):
            for heading in ("", fence.heading):
                if heading in waiting:
                    stack.enter_context(waiting.pop(heading)(page, tmp_path_factory))
            page.execute(fence)
    assert not waiting, "headings that the page does not have, or not before a block"
    if setting.printed is not None:
        assert capsys.readouterr().out.splitlines() == list(setting.printed)


def test_the_page_on_installing_has_every_extra() -> None:
    table = re.findall(r"^\| `(\w+)` \|", PAGES["install.md"].read_text("utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(extras())


def test_what_is_not_run_is_still_on_a_page() -> None:
    shown = " ".join(
        re.sub(r"\\\n\s*", "", fence.text)
        for path in PAGES.values()
        for fence in fences(path)
        if fence.language == "console"
    )
    assert [command for command in NOT_RUN if f"$ {command}\n" not in shown] == []
