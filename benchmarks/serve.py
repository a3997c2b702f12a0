"""`regallery serve` beside a Starlette application over faiss's flat index, both on one gallery.

    python benchmarks/serve.py --rows 1000000

Each server is a process of its own, with the same connections, the same queries and the same
filter (two of six cameras). Printed for one client and for 32 at once: the milliseconds of a search
over REST (median and 95th percentile), and searches per second; the share of the ten best rows of
float64 scores that are found; the seconds from the start to the first answer; and the most memory
that a process holds beyond mapped files. A gallery takes 2 GB of disk for each million rows. The
clients are threads of this process, so they share the cores with the server that they ask.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from contest import best_kernels
from million import Archive, write_gallery

NAME = "archive"
CAMERAS = ["c1", "c2"]
QUERIES = 64


def queries(dimension):
    """Some vectors, which have nothing to do with the gallery's rows."""
    rows = np.random.default_rng(7).standard_normal((QUERIES, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def peer(folder, port):
    """Serve searches by faiss; those without a filter that wait at one time are one call."""
    import asyncio

    import faiss
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from pipeline.gallery.table import Gallery

    gallery = Gallery.open(str(Path(folder) / NAME))
    index = faiss.IndexFlatIP(gallery.dimension)
    for block in gallery.blocks():
        index.add(block)
    rows = gallery.rows(["row_id", "path", "camera"])
    paths, cameras = rows["path"].to_pylist(), np.asarray(rows["camera"].to_pylist())
    turn, waiting = asyncio.Lock(), []

    def found(queries, limit, wanted):
        options = {}
        if wanted:
            ids = np.flatnonzero(np.isin(cameras, wanted))
            options["params"] = faiss.SearchParameters(sel=faiss.IDSelectorBatch(ids))
        return index.search(queries, limit, **options)

    async def search_waiting(limit):
        async with turn:
            batch, waiting[:] = waiting[:64], waiting[64:]
            if batch:
                queries = np.concatenate([query for query, _ in batch])
                lists = await asyncio.to_thread(found, queries, limit, None)
                for (_, answer), scores, places in zip(batch, *lists, strict=True):
                    answer.set_result((scores, places))

    async def search(request):
        body = await request.json()
        query = np.asarray([body["vector"]], np.float32)
        must = body.get("filter", {}).get("must", [])
        wanted = [each for condition in must for each in condition["match"]["any"]]
        if wanted:
            async with turn:
                lists = await asyncio.to_thread(found, query, body["limit"], wanted)
            scores, places = lists[0][0], lists[1][0]
        else:
            answer = asyncio.get_running_loop().create_future()
            waiting.append((query, answer))
            await search_waiting(body["limit"])
            scores, places = await answer
        pairs = zip(places.tolist(), scores.tolist(), strict=True)
        hits = [{"row_id": row, "score": score, "path": paths[row]} for row, score in pairs]
        return JSONResponse({"results": [{"hits": hits}]})

    async def health(_request):
        return JSONResponse({"status": "ok"})

    path = f"/v1/galleries/{NAME}/search"
    app = Starlette(routes=[Route(path, search, methods=["POST"]), Route("/healthz", health)])
    uvicorn.run(app, port=port, log_level="warning")


class Server:
    """A server in a process of its own, on a port."""

    def __init__(self, command, port, environment):
        start = time.perf_counter()
        self.port = port
        self.process = subprocess.Popen(command, env=environment)
        while True:
            try:
                self.ask("GET", "/healthz")
                break
            except OSError as error:
                if self.process.poll() is not None:
                    raise SystemExit(f"the server ended: {command}") from error
                time.sleep(0.05)
        self.start_seconds = time.perf_counter() - start

    def ask(self, method, path, body=None, connection=None):
        """One request; the answer as JSON."""
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {data.decode()}")
        return json.loads(data)

    def memory(self):
        """GB in memory beyond mapped files."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1e6
        return float("nan")

    def stop(self):
        """End the process."""
        self.process.terminate()
        self.process.wait()


def measure(server, bodies, clients, requests):
    """Seconds of each search, and searches per second, of some clients that ask at once."""
    seconds, start = [], time.perf_counter()

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for turn in range(requests):
            began = time.perf_counter()
            body = bodies[(number + turn) % len(bodies)]
            server.ask("POST", f"/v1/galleries/{NAME}/search", body, connection)
            seconds.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return seconds, len(seconds) / (time.perf_counter() - start)


def recall(server, bodies, best):
    """The share of the best rows that are found."""
    found = 0
    for body, wanted in zip(bodies, best, strict=False):
        hits = server.ask("POST", f"/v1/galleries/{NAME}/search", body)["results"][0]["hits"]
        found += len(set(wanted) & {hit["row_id"] for hit in hits})
    return found / sum(map(len, best))


def best_rows(folder, asked, limit=10):
    """The best rows of the first queries, by scores in float64."""
    from pipeline.gallery.table import Gallery

    gallery = Gallery.open(str(folder / NAME))
    scores = np.concatenate(
        [asked.astype(np.float64) @ block.astype(np.float64).T for block in gallery.blocks(16_384)],
        axis=1,
    )
    return np.argsort(-scores, axis=1, kind="stable")[:, :limit].tolist()


def told(name, server, chosen, best):
    """Measure a server, and print its line; return the figures."""
    plain = [{"vector": each.tolist(), "limit": 10} for each in queries(chosen.dimension)]
    must = [{"key": "camera", "match": {"any": CAMERAS}}]
    filtered = [json.dumps({**each, "filter": {"must": must}}) for each in plain]
    plain = [json.dumps(each) for each in plain]
    measure(server, plain, 2, 5)  # warm up
    share = recall(server, plain, best)
    one, _ = measure(server, plain, 1, chosen.requests)
    some, _ = measure(server, filtered, 1, chosen.requests)
    many, rate = measure(server, plain, chosen.clients, max(2, chosen.requests // 4))
    ms = {
        "one": 1e3 * statistics.median(one),
        "filtered": 1e3 * statistics.median(some),
        "many": 1e3 * statistics.median(many),
    }
    print(
        f"{name}: start {server.start_seconds:.1f} s, recall {share:.4f}; one client"
        f" {ms['one']:.0f} ms (95 %: {1e3 * np.percentile(one, 95):.0f}), with the filter"
        f" {ms['filtered']:.0f} ms; {chosen.clients} clients {rate:.1f} a second, {ms['many']:.0f}"
        f" ms; {server.memory():.2f} GB beyond mapped files",
        flush=True,
    )
    return {**ms, "rate": rate}


def main():
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=40, help="of one client")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peer:
        peer(chosen.peer[0], int(chosen.peer[1]))
        return
    with tempfile.TemporaryDirectory(prefix="serve-") as name:
        folder, figures = Path(name), {}
        write_gallery(folder / NAME, Archive(chosen.rows, chosen.dimension), chosen.rows, 1)
        best = best_rows(folder, queries(chosen.dimension)[:16])
        config = folder / "serve.toml"
        config.write_text("requests_per_second = 1e6\nburst = 1000000\n")
        ours = ["-m", "jobs.serve", "--gallery", str(folder / NAME), "--no-token", "--port"]
        theirs = [__file__, "--peer", str(folder)]
        for port, (label, command) in enumerate((("regallery", ours), ("faiss", theirs)), 8910):
            extra = ["--config", str(config)] if label == "regallery" else []
            kernels = os.environ if label == "regallery" else best_kernels()
            server = Server([sys.executable, *command, str(port), *extra], port, kernels)
            try:
                figures[label] = told(label, server, chosen, best)
            finally:
                server.stop()
    ours, theirs = figures["regallery"], figures["faiss"]
    print(
        f"faiss / regallery: one client {theirs['one'] / ours['one']:.2f}, with the filter"
        f" {theirs['filtered'] / ours['filtered']:.2f}; regallery / faiss: {chosen.clients} clients"
        f" {ours['rate'] / theirs['rate']:.2f} ({os.cpu_count()} cores)"
    )


if __name__ == "__main__":
    main()
