# TERN_LIBRARY=target/release/libtern.so PYTHONPATH=bindings/python python3 examples/python/generate.py -m MODEL "Once upon a time"
import argparse
import sys

import tern

flags = argparse.ArgumentParser()
flags.add_argument("-m", required=True, metavar="MODEL")
flags.add_argument("-n", type=int, default=64)
flags.add_argument("--temp", type=float, default=0)
flags.add_argument("--seed", type=int, default=0)
flags.add_argument("prompt")
args = flags.parse_args()


def say(text):
    sys.stdout.buffer.write(text.encode())
    sys.stdout.flush()


def generate():
    model = tern.Model(args.m)
    context, detok, sampler = model.context(), tern.Detok(model), tern.Sampler(args.seed)
    if args.temp > 0:
        sampler.top_k(40).temp(args.temp)
    tokens = model.tokenize(args.prompt)
    for _ in range(args.n):
        context.eval(tokens)
        token = sampler.sample(context)
        if model.is_eog(token):
            break
        say(detok.push(token))
        tokens = [token]
    say(detok.finish() + "\n")


try:
    generate()
except tern.TernError as e:
    sys.exit(f"error: {e}")
