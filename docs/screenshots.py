"""Pictures of the running console for README and docs: `python docs/screenshots.py [URL]` logs in, opens the cluster and a
job's page, and saves docs/img/console-cluster.png and docs/img/console-job.png.

URL, user and password come from the arguments, else from the lab that `make up` started (var/lab). The job is the one named, else
the running one with the most generations. Needs chromium (Debian: apt-get install chromium) and the development requirements.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGES = REPOSITORY / "docs" / "img"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
WIDTH, HEIGHT = 1280, 860
TALL = 1480
"""Of a job's page, which may be much longer."""
SETTLE_MS = 1500


def main() -> int:
    asked = _arguments()
    login = _login(asked)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark" if asked.dark else "light")
        _log_in(page, login)
        _save(page, f"{login['url']}/", "console-cluster", asked)
        job = asked.job or _liveliest_job(page, login["url"])
        if job is None:
            print("no job has run yet: submit one, then take the picture of its page")
        else:
            _save(page, f"{login['url']}/jobs/{job}/", "console-job", asked)
        browser.close()
    return 0 if job else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("url", nargs="?", help="the console's address")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--job", type=int, help="the number of the job whose page is shown")
    parser.add_argument("--lab", type=Path, default=REPOSITORY / "var" / "lab", help="directory of the lab")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--suffix", default="", help="added to the names of the files")
    return parser.parse_args()


def _login(asked: argparse.Namespace) -> dict[str, str]:
    """url, user and password: as asked for, the rest as the lab has it."""
    if asked.url and asked.user and asked.password:
        return {"url": asked.url.rstrip("/"), "user": asked.user, "password": asked.password}
    sys.path.insert(0, str(REPOSITORY))
    from clusteros.lab import lifecycle
    from clusteros.lab.layout import Lab

    lab = Lab(asked.lab)
    who: Any = lifecycle.read_login(lab)
    role = asked.user or "admin"
    if role not in who:
        raise SystemExit(f"the lab has no user {role}: {json.dumps(sorted(who))}")
    account = who[role]
    url = asked.url or lifecycle.url_of(lab)
    return {"url": url.rstrip("/"), "user": account["username"], "password": asked.password or account["password"]}


def _log_in(page: Page, login: dict[str, str]) -> None:
    page.goto(f"{login['url']}/login/")
    page.fill("#id_username", login["user"])
    page.fill("#id_password", login["password"])
    page.click("button.primary")
    if "/login/" in page.url:
        raise SystemExit(f"the console did not let {login['user']} in")


def _liveliest_job(page: Page, url: str) -> str | None:
    """The first job of the list that has a generation, else the first job."""
    page.goto(f"{url}/jobs/?state=")
    rows = page.locator("#jobs tbody tr")
    with_generation = rows.filter(has=page.locator("time[data-ago]").first).filter(has_not_text="none")
    chosen = with_generation if with_generation.count() else rows
    return chosen.first.locator("td a").first.inner_text() if chosen.count() else None


def _save(page: Page, address: str, name: str, asked: argparse.Namespace) -> None:
    page.goto(address)
    page.locator(".live[data-state=on]").wait_for(state="attached")
    page.wait_for_timeout(SETTLE_MS)
    path = IMAGES / f"{name}{asked.suffix}.png"
    page.evaluate("document.querySelector('.log')?.scrollTo(0, 1e9)")
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": TALL if name == "console-job" else HEIGHT})
    print(path.relative_to(REPOSITORY))


if __name__ == "__main__":
    sys.exit(main())
