#!/usr/bin/env python3
"""Mixed load on a server, with clients as they really are: some vanish, some stall, some send garbage.

  benchmarks/serve_soak.py http://127.0.0.1:8080 --pid $(pgrep -f "moiety serve") --minutes 60

Before it begins, some requests with fixed seeds are answered one at a time. From then on every seeded request must have the same text
as it had alone, token for token, whatever else goes on. Every request must be answered, or refused with a status and a reason; and the
server must still be there, holding no more memory than before. Says what happened, and exits with 1 if something of this did not hold.
"""
import argparse
import asyncio
import collections
import json
import random
import statistics
import time
import urllib.parse

WORDS = "time year people way day man thing woman life child world school state family student group country problem hand part".split()
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
          "required": ["name", "age"], "additionalProperties": False}


class Broken(Exception):
    """What a server must not do."""


class Soak:
    def __init__(self, options):
        url = urllib.parse.urlsplit(options.url)
        self.host, self.port, self.options = url.hostname, url.port, options
        self.counts, self.statuses, self.problems = collections.Counter(), collections.Counter(), []
        self.texts, self.memory = {}, []
        self.random = random.Random(options.seed)

    def seeded(self, number):
        draw = random.Random(number)
        words = draw.choices(WORDS, k=draw.choice([3, 20, 60, 150]))
        start = "The same beginning of many prompts, which is known after the first of them. " if number % 3 else ""
        return {"prompt": start + " ".join(words), "max_tokens": draw.choice([4, 30, 100]), "seed": number, "temperature": 0.9}

    async def open(self):
        return await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 20)

    async def send(self, writer, path, body, method="POST"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                     "Connection: close\r\n\r\n".encode() + data)
        await writer.drain()

    async def head(self, reader):
        line = await asyncio.wait_for(reader.readline(), 300)
        if not line:
            raise Broken("the connection was closed without an answer")
        while (await reader.readline()).strip():
            pass
        return int(line.split()[1])

    async def ask(self, path, body):
        """Status and JSON of a whole answer."""
        reader, writer = await self.open()
        try:
            await self.send(writer, path, body)
            status = await self.head(reader)
            content = json.loads(await asyncio.wait_for(self.body(reader), 300))
        finally:
            writer.close()
        self.statuses[status] += 1
        if status != 200 and "message" not in content.get("error", {}):
            raise Broken(f"status {status} without a reason")
        if status >= 500 and status != 503:
            raise Broken(f"status {status}: {content}")
        return status, content

    async def body(self, reader):
        return await reader.read()

    async def stream(self, body, stop_after=None, pause=0):
        reader, writer = await self.open()
        text, ended = "", False
        try:
            await self.send(writer, "/v1/completions", {**body, "stream": True})
            status = await self.head(reader)
            self.statuses[status] += 1
            if status != 200:
                if "message" not in json.loads(await reader.read()).get("error", {}):
                    raise Broken(f"status {status} without a reason")
                return None
            events = 0
            while line := await asyncio.wait_for(reader.readline(), 300):
                if not line.startswith(b"data: "):
                    continue
                if line.strip() == b"data: [DONE]":
                    ended = True
                    break
                event = json.loads(line[6:])
                if "error" in event:
                    raise Broken(f"an error within a stream: {event['error']}")
                text += event["choices"][0]["text"] if event["choices"] else ""
                events += 1
                if events == stop_after:
                    return None
                if pause:
                    await asyncio.sleep(pause)
            if not ended:
                raise Broken("a stream ended without its end")
            return text
        finally:
            writer.close()

    # What clients do

    async def seeded_whole(self):
        number = self.random.randrange(self.options.texts)
        status, answer = await self.ask("/v1/completions", self.seeded(number))
        if status == 200:
            self.compare(number, answer["choices"][0]["text"])

    async def seeded_stream(self):
        number = self.random.randrange(self.options.texts)
        self.compare(number, await self.stream(self.seeded(number)))

    async def reads_slowly(self):
        number = self.random.randrange(self.options.texts)
        self.compare(number, await self.stream(self.seeded(number), pause=0.05))

    def compare(self, number, text):
        if text is None:
            return
        self.counts["texts compared"] += 1
        if text != self.texts[number]:
            raise Broken(f"request {number} had {self.texts[number]!r} alone and {text!r} now")

    async def vanishes(self):
        await self.stream({**self.seeded(self.random.randrange(1 << 30)), "max_tokens": 400}, stop_after=self.random.randrange(1, 20))

    async def vanishes_at_once(self):
        _, writer = await self.open()
        await self.send(writer, "/v1/completions", {**self.seeded(self.random.randrange(1 << 30)), "max_tokens": 400})
        writer.close()

    async def stalls(self):
        _, writer = await self.open()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le")
        await writer.drain()
        await asyncio.sleep(self.random.uniform(1, 30))
        writer.close()

    async def garbage(self):
        reader, writer = await self.open()
        writer.write(self.random.randbytes(self.random.randrange(1, 3000)) + b"\r\n\r\n")
        await writer.drain()
        await asyncio.wait_for(reader.read(), 60)
        writer.close()

    async def broken_json(self):
        good = json.dumps(self.seeded(1)).encode()
        body = good[: self.random.randrange(len(good))] if self.random.random() < 0.5 else bytes(
            b if self.random.random() > 0.05 else self.random.randrange(256) for b in good)
        status, _ = await self.ask(self.random.choice(["/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/embeddings"]), body)
        self.counts[f"broken JSON: {status}"] += 1

    async def too_much(self):
        status, _ = await self.ask("/v1/completions", {"prompt": "x " * 200000, "max_tokens": 5})
        if status not in (400, 413):
            raise Broken(f"a prompt that is too long had status {status}")

    async def schema(self):
        status, answer = await self.ask("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 200, "seed": self.random.randrange(1 << 30),
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}})
        if status == 200 and answer["choices"][0]["finish_reason"] == "stop":
            value = json.loads(answer["choices"][0]["message"]["content"])
            if set(value) != {"name", "age"}:
                raise Broken(f"a text that does not keep to its schema: {value}")
            self.counts["schemas kept"] += 1

    async def several(self):
        status, answer = await self.ask("/v1/completions", {**self.seeded(7), "n": 3})
        if status == 200 and (len(answer["choices"]) != 3 or answer["choices"][0]["text"] != self.texts[7]):
            raise Broken("n = 3 had other texts")

    async def embedding(self):
        status, answer = await self.ask("/v1/embeddings", {"input": ["one text", "another"]})
        if status == 200 and len(answer["data"]) != 2:
            raise Broken("two texts had other than two embeddings")

    async def watches(self):
        for path in ("/metrics", "/health", "/v1/models"):
            reader, writer = await self.open()
            await self.send(writer, path, b"", "GET")
            status = await self.head(reader)
            await reader.read()
            writer.close()
            if status != 200:
                raise Broken(f"{path} had status {status}")

    async def client(self, end):
        kinds = [(self.seeded_whole, 4), (self.seeded_stream, 6), (self.reads_slowly, 1), (self.vanishes, 3), (self.vanishes_at_once, 1),
                 (self.stalls, 0.5), (self.garbage, 1), (self.broken_json, 2), (self.too_much, 0.2), (self.schema, 1), (self.several, 1),
                 (self.embedding, 1), (self.watches, 1)]
        while time.monotonic() < end:
            kind = self.random.choices([k for k, _ in kinds], [w for _, w in kinds])[0]
            try:
                await kind()
                self.counts[kind.__name__] += 1
            except (OSError, asyncio.IncompleteReadError) as error:
                self.counts[f"{kind.__name__}: {type(error).__name__}"] += 1
                if kind not in (self.garbage, self.too_much, self.broken_json):
                    self.problems.append(f"{kind.__name__}: {error!r}")
            except (Broken, asyncio.TimeoutError, ValueError, KeyError) as error:
                self.problems.append(f"{kind.__name__}: {error!r}")
            await asyncio.sleep(self.random.expovariate(1 / self.options.pause) if self.options.pause else 0)

    async def watch_memory(self, end):
        while time.monotonic() < end:
            with open(f"/proc/{self.options.pid}/status", encoding="ascii") as status:
                self.memory.append(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS")))
            await asyncio.sleep(0.5)

    async def run(self):
        for number in range(self.options.texts):
            status, answer = await self.ask("/v1/completions", self.seeded(number))
            if status != 200:
                raise SystemExit(f"a request alone had status {status}: {answer}")
            self.texts[number] = answer["choices"][0]["text"]
        end = time.monotonic() + 60 * self.options.minutes
        await asyncio.gather(self.watch_memory(end), *(self.client(end) for _ in range(self.options.clients)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between a client's requests, on average")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    soak = Soak(options)
    asyncio.run(soak.run())
    quarter = len(soak.memory) // 4
    second, last = (statistics.median(part) for part in (soak.memory[quarter:2 * quarter], soak.memory[3 * quarter:]))
    print(json.dumps({"minutes": options.minutes, "done": dict(soak.counts), "statuses": dict(soak.statuses),
                      "most_memory": max(soak.memory), "memory_second_quarter": second, "memory_last_quarter": last,
                      "growth": last / second - 1, "problems": len(soak.problems), "first_problems": soak.problems[:10]}, indent=1))
    raise SystemExit(1 if soak.problems else 0)


if __name__ == "__main__":
    main()
