"""What the page's script adds, in a browser: sorting, values under the pointer, hidden methods, downloads."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reticket.report import build_report
from tests.sample_results import write_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here to run the page's script")

ACTIONS = """<script>
const said = {};
const press = (root, name) => [...root.querySelectorAll("button")].find((b) => b.textContent.trim() === name).click();
const table = document.querySelector(".wide .grid");
const order = () => [...table.tBodies[0].rows].map((row) => row.dataset.method);
said.before = order();
table.tHead.rows[1].cells[0].querySelector("button").click();
said.falling = order();
said.values = [...table.tBodies[0].rows].map((row) => row.cells[1].textContent);
table.tHead.rows[1].cells[0].querySelector("button").click();
said.rising = order();
said.sort = table.tHead.rows[1].cells[0].getAttribute("aria-sort");

const panel = document.querySelector("#accuracy_by_sparsity svg.panel");
const mark = panel.querySelector(".mark[data-method=permuted]");
mark.scrollIntoView({ behavior: "instant" });
const box = mark.getBoundingClientRect();
const middle = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true };
panel.dispatchEvent(new PointerEvent("pointermove", middle));
said.bubble = document.querySelector(".bubble").textContent;
panel.dispatchEvent(new PointerEvent("pointermove", { clientX: 0, clientY: 0, bubbles: true }));
said.away = document.querySelector(".bubble").hidden;

const seen = (method) => [...document.querySelectorAll(`[data-method=${method}]`)]
  .filter((element) => getComputedStyle(element).display !== "none").length;
said.shown = seen("naive");
press(document.querySelector(".chooser"), "naive");
said.hidden = [seen("naive"), seen("lth") > 0];
press(document.querySelector(".chooser"), "Show all");
said.again = seen("naive");

const saved = [];
URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
HTMLAnchorElement.prototype.click = function () { saved[saved.length - 1].name = this.download; };
press(document.querySelector("#accuracy_by_sparsity"), "Download SVG");
press(document.querySelector("#overlap"), "Download CSV");
Promise.all(saved.map((blob) => blob.text())).then((texts) => {
  said.files = Object.fromEntries(saved.map((blob, i) => [blob.name, texts[i]]));
  const out = document.createElement("script");
  out.type = "application/json";
  out.id = "said";
  out.textContent = JSON.stringify(said).replaceAll("<", "\\\\u003c");
  document.body.append(out);
});
</script></body>"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = write_run(tmp_path_factory.mktemp("run"))
    page = build_report(folder)
    page.write_text(page.read_text("utf-8").replace("</body>", ACTIONS.replace("\\\\u", "\\u")), "utf-8")
    return driven(page) | {"folder": folder}


def driven(page: Path) -> dict[str, object]:
    """Open the page in a browser, let its script and the actions run, and read what they said."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run([str(BROWSER), *flags, page.as_uri()], capture_output=True, text=True, check=True)
    found = re.search(r'<script type="application/json" id="said">(.*?)</script>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return json.loads(found[1])


@pytest.mark.slow
def test_the_main_table_is_sorted_by_value(said: dict[str, object]) -> None:
    numbers = [float(str(text).split()[0]) for text in said["values"]]  # type: ignore[attr-defined]
    assert numbers == sorted(numbers, reverse=True)
    assert sorted(said["before"]) == sorted(said["falling"])  # type: ignore[call-overload]
    assert said["before"] != said["falling"] != said["rising"]
    assert said["sort"] == "ascending"


@pytest.mark.slow
def test_a_mark_says_whose_it_is_and_its_value(said: dict[str, object]) -> None:
    assert re.fullmatch(r"permuted, \S+\s%, rewound to .*: \d+\.\d ± \d+\.\d \(n = \d+\)", str(said["bubble"]))
    assert said["away"] is True


def test_a_method_is_hidden_in_every_table_and_figure_and_comes_back(said: dict[str, object]) -> None:
    assert said["hidden"] == [0, True]
    assert said["again"] == said["shown"]
    assert isinstance(said["shown"], int)
    assert said["shown"] > 10


def test_downloads_are_the_whole_table_and_a_figure_that_stands_alone(said: dict[str, object]) -> None:
    files, folder = said["files"], said["folder"]
    assert isinstance(files, dict)
    assert isinstance(folder, Path)
    assert files["overlap.csv"] == (folder / "tables" / "overlap.csv").read_text("utf-8")
    picture = files["accuracy_by_sparsity.svg"]
    assert picture.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "var(--" not in picture
    assert picture.count("<svg") == picture.count("viewBox") >= 3
