#!/usr/bin/env python3
"""Load on an OpenAI-compatible server: generated tokens a second, and how long clients wait.

  benchmarks/serving.py http://127.0.0.1:8080 [--clients 16] [--requests 32] [--prompt 128] [--new 128] [--rate R] [--shared 0]

Closed loop without --rate: so many clients, each with its next request when it has the answer to the last. With --rate requests
arrive at random times, R a second on average, whether or not earlier ones are answered (open loop, Poisson). Prompts are random
words of a fixed seed, each different; --shared so many tokens that all begin with. Words are counted as the server counts its
prompt tokens. Time to first token, time between tokens and time of a whole request: median, 95th and 99th percentile, in seconds.

--start COMMAND starts a server (and ends it) before, --pid N names one: then the most memory it held is told, too.
"""
import argparse
import asyncio
import json
import random
import shlex
import signal
import statistics
import subprocess
import time
import urllib.parse

WORDS = ("time year people way day man thing woman life child world school state family student group country problem hand part "
         "place case week company system program question work government number night point home water room mother area money "
         "story fact month lot right study book eye job word business issue side kind head house service friend father power hour "
         "game line end member law car city community name president team minute idea body information back parent face others level "
         "office door health person art war history party result change morning reason research girl guy moment air teacher force").split()


def percentiles(values):
    if not values:
        return {}
    values = sorted(values)
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))]
    return {"median": statistics.median(values), "p95": at(0.95), "p99": at(0.99), "most": values[-1]}


class Client:
    def __init__(self, options):
        self.options = options
        url = urllib.parse.urlsplit(options.url)
        self.host, self.port = url.hostname, url.port or 80
        self.first, self.between, self.whole, self.failures = [], [], [], []
        self.tokens = self.prompt_tokens = self.cached_tokens = 0

    async def post(self, path, body, on_line=None):
        """Status and body; of a stream, on_line is called with each event's data."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            data = json.dumps(body).encode()
            key = f"Authorization: Bearer {self.options.key}\r\n" if self.options.key else ""
            writer.write((f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n{key}"
                          f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n").encode() + data)
            await writer.drain()
            status = int((await reader.readline()).split()[1])
            while (await reader.readline()).strip():
                pass
            if on_line is None or status != 200:
                return status, (await reader.read()).decode(errors="replace")
            async for line in reader:
                if line.startswith(b"data: "):
                    on_line(line[6:].strip())
            return status, ""
        finally:
            writer.close()

    def prompt(self, number):
        shared = random.Random(7).choices(WORDS, k=self.options.shared)
        own = random.Random(1000 + number + self.options.seed * 100000).choices(WORDS, k=self.options.prompt - self.options.shared)
        return " ".join(shared + own)

    async def request(self, number):
        start = last = time.monotonic()
        came, usage = 0, {}
        errors = []

        def on_event(data):
            nonlocal last, came, usage
            now = time.monotonic()
            if data == b"[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                errors.append(str(event["error"]))
                return
            usage = event.get("usage") or usage
            if not event.get("choices"):
                return
            choice = event["choices"][0]
            if not (choice.get("text") or choice.get("delta", {}).get("content")):
                return
            if came == 0:
                self.first.append(now - start)
            else:
                self.between.append(now - last)
            came, last = came + 1, now

        body = {"prompt": self.prompt(number), "max_tokens": self.options.new, "stream": True, "stream_options": {"include_usage": True},
                "temperature": self.options.temperature, "seed": number, "ignore_eos": True}
        try:
            status, text = await self.post("/v1/completions", body, on_event)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            status, text = 0, str(error)
        if status != 200 or errors or not usage.get("completion_tokens", came):
            self.failures.append(f"{status} {text[:200]}{errors}")
            return
        self.whole.append(time.monotonic() - start)
        self.tokens += usage.get("completion_tokens", came)
        self.prompt_tokens += usage.get("prompt_tokens", 0)
        self.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)

    async def closed_loop(self):
        numbers = iter(range(self.options.requests))

        async def one():
            for number in numbers:
                await self.request(number)
        await asyncio.gather(*(one() for _ in range(self.options.clients)))

    async def open_loop(self):
        arrivals, tasks = random.Random(3), []
        for number in range(self.options.requests):
            tasks.append(asyncio.create_task(self.request(number)))
            await asyncio.sleep(arrivals.expovariate(self.options.rate))
        await asyncio.gather(*tasks)

    async def run(self):
        start = time.monotonic()
        await (self.open_loop() if self.options.rate else self.closed_loop())
        seconds = time.monotonic() - start
        return {"seconds": seconds, "requests": self.options.requests, "failed": len(self.failures), "failures": self.failures[:3],
                "generated_tokens": self.tokens, "generated_tokens_per_second": self.tokens / seconds,
                "prompt_tokens": self.prompt_tokens, "cached_tokens": self.cached_tokens, "first_token": percentiles(self.first),
                "between_tokens": percentiles(self.between), "whole": percentiles(self.whole)}


async def wait_until_ready(options):
    url = urllib.parse.urlsplit(options.url)
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(f"GET /health HTTP/1.1\r\nHost: {url.hostname}\r\nConnection: close\r\n\r\n".encode())
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)
    raise SystemExit(f"{options.url}: not ready after five minutes")


def most_memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=128, help="words")
    parser.add_argument("--shared", type=int, default=0, help="words that all prompts begin with")
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--rate", type=float, help="requests a second that arrive")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0, help="other prompts")
    parser.add_argument("--key")
    parser.add_argument("--start", help="the command that starts the server")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    server = None
    if options.start:
        server = subprocess.Popen(shlex.split(options.start), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        options.pid = server.pid
    try:
        asyncio.run(wait_until_ready(options))
        result = asyncio.run(Client(options).run())
        if options.pid:
            result["most_memory"] = most_memory(options.pid)
    finally:
        if server:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['generated_tokens_per_second']:.1f} tokens/s generated, {result['generated_tokens']} in {result['seconds']:.1f} s; "
          f"{result['failed']} of {result['requests']} requests failed; {result['cached_tokens']} of {result['prompt_tokens']} prompt tokens were known")
    for name in ("first_token", "between_tokens", "whole"):
        row = result[name]
        if row:
            print(f"{name:>15}: median {row['median']:.3f} s, 95 % {row['p95']:.3f}, 99 % {row['p99']:.3f}, most {row['most']:.3f}")
    for failure in result["failures"]:
        print(f"failed: {failure}")


if __name__ == "__main__":
    main()
