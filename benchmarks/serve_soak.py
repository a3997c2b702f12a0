"""Fifteen minutes of mixed load on `regallery serve`, which is killed again and again.

    python benchmarks/serve_soak.py --minutes 15

Clients search by vectors, rows, examples and filters, and give and withdraw verdicts; a writer
commits versions with new rows and without others; and the process is killed (kill -9) and started
again. Every answer of a search is checked, row by row and score by score, against a loop over all
rows of the version that the answer states. At the end, every verdict that was acknowledged must be
in the gallery, and in the last part, without kills, the memory of the process must stay flat (a
tenth more at most).
"""

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core.neighbors.topk import search
from pipeline.core.vectors import unit_vectors
from pipeline.gallery.files.schema import encode_features
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.table import Gallery
from pipeline.model.recipe import Recipe
from pipeline.runs.verdicts import list_verdicts
from pipeline.schemas import REJECT_SCHEMA

DIMENSION = 64
UNIT = 500
TOKEN = "a-token-for-the-soak-test"
FLAT = 1.1


class Truth:
    """The gallery as the writer knows it: ids, cameras and features of every version."""

    def __init__(self, folder):
        recipe = Recipe(weights="0" * 64)
        self.gallery = Gallery.create(
            str(folder), recipe_json=recipe.to_json(), fingerprint=recipe.fingerprint,
            dimension=DIMENSION, source=str(folder / "no-images"), layout="market1501",
        )  # fmt: skip
        self.versions = {}
        self.rng = np.random.default_rng(0)
        for _ in range(8):
            self.commit()

    def commit(self):
        """One more version: a unit of new rows, and some of the old ones removed."""
        first = self.gallery.next_row_id
        ids = range(first, first + UNIT)
        features = self.rng.standard_normal((UNIT, DIMENSION))
        features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
        columns = {f.name: pa.nulls(UNIT, f.type) for f in self.gallery.target.schema}
        columns |= {
            "row_id": pa.array(ids, pa.int64()),
            "path": pa.array([f"{row:08d}.jpg" for row in ids]),
            "identity": pa.array([row % 97 + 1 for row in ids], pa.int64()),
            "camera": pa.array([f"c{row % 4}" for row in ids]),
            "feature": encode_features(features),
        }
        rows = pa.table(columns, self.gallery.target.schema)
        unit = write_unit(self.gallery.target, f"u{first}", ids, rows, REJECT_SCHEMA.empty_table())
        old = self.gallery.row_ids()
        gone = self.rng.choice(old, min(len(old) // 10, 200), replace=False) if len(old) else ()
        self.gallery = self.gallery.commit([unit], run_id=f"run{first}", removes=gone)
        ids = self.gallery.row_ids()
        self.versions[self.gallery.version] = ids, self.gallery.array()

    def best(self, version, query, limit, kept=lambda ids: np.ones(len(ids), bool)):
        """Ids and scores of a loop over all rows of a version that are kept."""
        ids, features = self.versions[version]
        places = np.flatnonzero(kept(ids))
        found = search(
            query[None], np.ascontiguousarray(features[places]), limit, products="float32"
        )
        real = found.rows[0] >= 0
        return ids[places[found.rows[0][real]]].tolist(), found.scores[0][real].tolist()


class Service:
    """The process, which can be killed and started again on the same port."""

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None
        self.token = folder.parent / "token"
        self.token.write_text(TOKEN)
        self.config = folder.parent / "serve.toml"
        self.config.write_text("requests_per_second = 1e6\nburst = 1000000\n")

    def start(self):
        """Start it, and wait for its first answer."""
        command = [
            sys.executable, "-m", "jobs.serve", "--gallery", str(self.folder), "--port",
            str(self.port), "--token-file", str(self.token), "--allow-verdicts", "--config",
            str(self.config),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("the service ended by itself") from None
                time.sleep(0.05)

    def kill(self):
        """End it without notice."""
        self.process.kill()
        self.process.wait()

    def memory(self):
        """MB in memory beyond mapped files."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1e3
        raise SystemExit("the memory of the process is not known")


class Clients:
    """Threads that ask until they are stopped, and check what they get."""

    def __init__(self, truth, port, count):
        self.truth, self.port = truth, port
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.searched = self.lost = 0
        self.given, self.wrong = {}, []
        self.threads = [threading.Thread(target=self._work, args=(n,)) for n in range(count)]

    def start(self):
        """Begin."""
        for each in self.threads:
            each.start()

    def stop(self):
        """End, after the requests that are under way."""
        self.stopping.set()
        for each in self.threads:
            each.join()

    def _work(self, number):
        draw, connection = random.Random(number), None
        while not self.stopping.is_set():
            try:
                connection = connection or http.client.HTTPConnection(
                    "127.0.0.1", self.port, timeout=60
                )
                if number == 0 or draw.random() < 0.05:
                    self._judge(draw, connection)
                else:
                    self._search(draw, connection)
            except (OSError, http.client.HTTPException):  # it was killed
                self.lost += 1
                connection = None
                time.sleep(0.05)

    def _ask(self, connection, path, body):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        connection.request("POST", f"/v1/galleries/archive/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def _search(self, draw, connection):
        limit, kind = (
            draw.choice([1, 10, 100]),
            draw.choice(["vector", "filter", "row", "examples"]),
        )
        body, kept, query = {"limit": limit}, lambda ids: np.ones(len(ids), bool), None
        ids = self.truth.versions[max(self.truth.versions)][0]
        if kind in ("vector", "filter"):
            query = np.random.default_rng(draw.getrandbits(32)).standard_normal(DIMENSION)
            body["vector"] = query.tolist()
            query = unit_vectors(query[None])[0]
        elif kind == "row":
            row = int(draw.choice(ids))
            body["row"], kept = row, lambda ids: ids != row
        else:
            rows = [int(draw.choice(ids)) for _ in range(3)]
            body |= {"positive": rows[:2], "negative": rows[2:]}
            kept = lambda ids: ~np.isin(ids, rows)  # noqa: E731
        if kind == "filter":
            camera = draw.randrange(4)
            body["filter"] = {"must": [{"key": "camera", "match": {"value": f"c{camera}"}}]}
            kept = lambda ids: ids % 4 == camera  # noqa: E731
        status, told = self._ask(connection, "search", body)
        if status == 400 and "has no row" in told["error"]["message"]:
            return  # another version than the one that the id was drawn from
        if status != 200:
            self.wrong.append(f"{status}: {told}")
            return
        while told["version"] not in self.truth.versions:  # committed, and not yet noted here
            time.sleep(0.01)
        if query is None:
            query = self._query(told["version"], body)
        wanted = self.truth.best(told["version"], query, limit, kept)
        hits = told["results"][0]["hits"]
        found = [hit["row_id"] for hit in hits], [hit["score"] for hit in hits]
        if found != wanted:
            self.wrong.append(f"version {told['version']}, {kind}: {found} and not {wanted}")
        self.searched += 1

    def _query(self, version, body):
        ids, features = self.truth.versions[version]
        of = lambda rows: features[np.searchsorted(ids, rows)]  # noqa: E731
        if "row" in body:
            return of([body["row"]])[0]
        good, bad = of(body["positive"]), of(body["negative"])
        query = 2 * good.mean(axis=0, dtype=np.float64) - bad.mean(axis=0, dtype=np.float64)
        return unit_vectors(query[None])[0]

    def _judge(self, draw, connection):
        """Give a verdict on two rows of two identities, or withdraw one."""
        ids = self.truth.versions[max(self.truth.versions)][0]
        pair = sorted(int(draw.choice(ids)) for _ in range(2))
        if pair[0] % 97 == pair[1] % 97:
            return
        word = "different"
        with self.lock:
            known = tuple(pair) in self.given
        if known and draw.random() < 0.5:
            word = "withdrawn"
        body = {"a": pair[0], "b": pair[1], "verdict": word, "who": "soak"}
        try:
            status, told = self._ask(connection, "verdicts", body)
        except (OSError, http.client.HTTPException):
            with self.lock:
                self.given.pop(tuple(pair), None)  # it may have been recorded, or not
            raise
        if status == 200:
            with self.lock:
                self.given[tuple(pair)] = word
        elif status not in (400, 404, 409):
            self.wrong.append(f"verdict, {status}: {told}")


def main():
    """Run it, and say what was found; exit 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--port", type=int, default=8920)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serve-soak-") as name:
        folder, draw = Path(name) / "archive", random.Random(0)
        truth, service = Truth(folder), Service(folder, chosen.port)
        service.start()
        clients, end = (
            Clients(truth, chosen.port, chosen.clients),
            time.monotonic() + 60 * chosen.minutes,
        )
        quiet = end - 60 * chosen.minutes / 3
        clients.start()
        kills, memory = 0, []
        while time.monotonic() < end and not clients.wrong:
            time.sleep(draw.uniform(0.5, 4))
            truth.commit()
            if time.monotonic() < quiet and draw.random() < 0.15:
                service.kill()
                kills += 1
                service.start()
            elif time.monotonic() > quiet:
                memory.append(service.memory())
        clients.stop()
        service.kill()
        rows = set(truth.gallery.row_ids().tolist())
        listed = {(each.a, each.b) for each in list_verdicts(truth.gallery).verdicts}
        wanted = {p for p, word in clients.given.items() if word == "different" and rows >= set(p)}
        lost = wanted - listed
        third = max(1, len(memory) // 3)
        before, after = (
            float(np.median(each)) for each in (memory[third : 2 * third], memory[-third:])
        )
        print(
            f"{clients.searched:,} searches checked, {len(clients.wrong)} wrong; {kills} kills,"
            f" {clients.lost} requests cut off; {truth.gallery.version} versions;"
            f" {len(clients.given):,} verdicts acknowledged, {len(wanted):,} of rows that are left,"
            f" {len(lost)} lost; memory {before:.0f} MB, later {after:.0f} MB"
        )
        for each in clients.wrong[:3]:
            print(each[:500])
        if clients.wrong or lost or after > FLAT * before:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
