"""What a good engineer writes in an afternoon: FastAPI on uvicorn (uvloop, httptools), confluent-kafka.

It answers after the broker's acknowledgement: the delivery report comes on librdkafka's thread and wakes the
request's future on the event loop.
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import threading

import uvicorn
from confluent_kafka import Producer
from fastapi import FastAPI, Request, Response

arguments = argparse.ArgumentParser()
for name in ("listen", "bootstrap", "topic", "denied", "token"):
    arguments.add_argument(f"--{name}", required=True)
settings = arguments.parse_args()

with open(settings.denied, encoding="ascii") as lines:
    denied = frozenset(lines.read().split())

producer = Producer(
    {
        "bootstrap.servers": settings.bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 5,
    }
)
stopping = threading.Event()


def poll() -> None:
    while not stopping.is_set():
        producer.poll(0.1)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI):
    poller = threading.Thread(target=poll)
    poller.start()
    yield
    producer.flush(10)
    stopping.set()
    poller.join()


app = FastAPI(lifespan=lifespan)


def reply(status: int, code: int, info: str = "") -> Response:
    body = json.dumps({"ActionStatus": "OK", "ErrorInfo": info, "ErrorCode": code})
    return Response(body, status, media_type="application/json")


@app.post("/")
async def answer(request: Request) -> Response:
    query = request.query_params
    expected = hashlib.sha256((settings.token + query.get("RequestTime", "")).encode()).hexdigest()
    if not hmac.compare_digest(expected, query.get("Sign", "")):
        return reply(403, 0, "forged")
    try:
        callback = json.loads(await request.body())
        operator = callback["Operator_Account"]
    except (ValueError, KeyError, TypeError):
        return reply(200, 0)
    refused = operator in denied
    callback["denied"] = refused
    loop = asyncio.get_running_loop()
    acknowledged = loop.create_future()

    def settle(error) -> None:
        if not acknowledged.done():
            acknowledged.set_result(error)

    def delivered(error, _message) -> None:
        loop.call_soon_threadsafe(settle, error)

    try:
        producer.produce(settings.topic, json.dumps(callback), operator, on_delivery=delivered)
    except BufferError:
        return reply(503, 0, "queue full")
    if await acknowledged is not None:
        return reply(503, 0, "not recorded")
    return reply(200, 10101, "denied") if refused else reply(200, 0)


host, port = settings.listen.rsplit(":", 1)
uvicorn.run(app, host=host, port=int(port), access_log=False, log_level="warning")
