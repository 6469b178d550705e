"""Writes docs/figures/page.png, the picture of the README: `python docs/screenshot.py RUN`.

RUN is the workdir of `musrep demo`, whose models and recording are shown. It needs selenium (extra
`test`), Chromium and its driver.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FIGURE = pathlib.Path(__file__).resolve().parent / "figures" / "page.png"
WIDTH, HEIGHT = 1000, 890
MAX_BYTES = 200_000
SECONDS = 120


def main() -> None:
    """Serves the best model of a demo, tags its recording in a browser, and keeps the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=pathlib.Path, help="workdir of musrep demo")
    parser.add_argument("--out", type=pathlib.Path, default=FIGURE)
    arguments = parser.parse_args()
    recording = arguments.run / "new_recording.wav"
    if not recording.is_file():
        sys.exit(f"{recording} is not there: run musrep demo --workdir={arguments.run} first.")
    command = [sys.executable, "-m", "musrep_jax", "serve", str(find_export(arguments.run))]
    server = subprocess.Popen([*command, "--port", "0", "--json"], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        take_picture(json.loads(server.stdout.readline())["address"], recording, arguments.out)
    finally:
        server.terminate()
        server.wait()
    size = arguments.out.stat().st_size
    if size > MAX_BYTES:
        sys.exit(
            f"{arguments.out} has {size:,} bytes; a README's picture has {MAX_BYTES:,} at most."
        )
    print(f"wrote {arguments.out}, {size:,} bytes")


def find_export(run: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the model that is best on validation."""
    from musrep_jax.experiments.next_steps import choose_best_export
    from musrep_jax.experiments.reading import read_run

    best = choose_best_export(list(read_run(run).results.values()))
    if best is None:
        sys.exit(f"{run} has no exported model.")
    return run / best["export"]


def take_picture(address: str, recording: pathlib.Path, out: pathlib.Path) -> None:
    """Writes what the page at an address shows of a recording."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    # Named, they are not looked for on the network.
    options.binary_location = shutil.which("chromium") or sys.exit("Chromium is not installed.")
    driver_path = shutil.which("chromedriver") or sys.exit("chromium-driver is not installed.")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(address)
        wait = WebDriverWait(driver, SECONDS)
        wait.until(lambda d: d.execute_script("return document.body.dataset.ready"))
        driver.find_element(By.ID, "file").send_keys(str(recording.resolve()))
        wait.until(lambda d: d.find_element(By.ID, "name").text == recording.name)
        wait.until(lambda d: d.execute_script("return document.getElementById('audio').readyState"))
        out.parent.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(out))
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
