"""The conformance tests, through Python. The other languages have the same list.

    TERN_LIBRARY=target/release/libtern.so python3 bindings/python/test_tern.py [-v]
    TERN_LIBRARY=... python3 bindings/python/test_tern.py --bless      writes tests/data/golden anew
"""

import gc
import json
import os
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import tern
from tern import Status, TernError

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ.get("TERN_MODEL") or str(ROOT / (ROOT / "examples/models/default.txt").read_text().strip())
GOLDEN = ROOT / "tests/data/golden"
ROUNDS = int(os.environ.get("TERN_LEAK_ROUNDS", "1000"))
SCHEMA = {"type": "object", "properties": {"name": {"enum": ["Tom", "Lily"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
          "tags": {"type": "array", "items": {"enum": ["big", "red"]}, "maxItems": 2}},
          "required": ["name", "age", "tags"], "additionalProperties": False}


def golden(name):
    return (GOLDEN / name).read_bytes().decode()


def generate(model, prompt, n, sampler):
    """What examples/*/generate print."""
    context, detok = model.context(), tern.Detok(model)
    tokens, text = model.tokenize(prompt), ""
    for _ in range(n):
        context.eval(tokens)
        token = sampler.sample(context)
        if model.is_eog(token):
            break
        text += detok.push(token)
        tokens = [token]
    return text + detok.finish() + "\n"


def load_errors():
    """(case, status, message) of files that are no models; a binding's test makes the same files."""
    head = Path(MODEL).read_bytes()[:4096]
    cases = {"missing": None, "empty": b"", "text": b"This is no model.\n", "truncated": head, "version": head[:4] + b"\x63" + head[5:]}
    with tempfile.TemporaryDirectory() as folder:
        for case, data in cases.items():
            path = os.path.join(folder, case + ".gguf")
            if data is not None:
                Path(path).write_bytes(data)
            try:
                tern.Model(path)
                yield case, "TERN_OK", ""
            except TernError as e:
                yield case, tern._lib.tern_status_name(e.code).decode(), str(e).replace(path, "{path}")


def chat_greedy(session, **options):
    return session.respond(golden("chat-prompt.txt"), sampler=tern.Sampler(), max_tokens=48, **options)


def bless():
    model = tern.Model(MODEL)
    files = {
        "story-greedy.txt": generate(model, golden("story-prompt.txt"), 64, tern.Sampler()),
        "story-seed7.txt": generate(model, golden("story-prompt.txt"), 64, tern.Sampler(7).top_k(40).temp(0.8)),
        "chat-greedy.txt": chat_greedy(model.session()),
        "text-tokens.txt": "".join(f"{t}\n" for t in model.tokenize(golden("text.txt"))),
        "load-errors.txt": "".join("\t".join(line) + "\n" for line in load_errors()),
    }
    for name, text in files.items():
        (GOLDEN / name).write_bytes(text.encode())
        print(name)


def resident():
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = tern.Model(MODEL)

    def refused(self, code, call, *arguments, **named):
        with self.assertRaises(TernError) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception

    # ---- the library

    def test_version_is_checked(self):
        self.assertEqual(tern.version(), "%d.%d.%d" % tern.VERSION)
        major, minor, _ = tern.VERSION
        tern._check_version((major * 1000 + minor) * 1000 + 999)
        for wrong in ((major * 1000 + minor + 1) * 1000, (major + 1) * 1000000):
            with self.assertRaises(ImportError):
                tern._check_version(wrong)

    def test_every_status_has_its_name(self):
        for status in Status:
            name = ("TERN_ERR_" if status < 0 else "TERN_") + status.name
            self.assertEqual(tern._lib.tern_status_name(status).decode(), name)
        for stranger in (min(Status) - 1, max(Status) + 1):
            self.assertEqual(tern._lib.tern_status_name(stranger), b"TERN_?")

    def test_system_info_and_self_test(self):
        self.assertIn("kernels", json.dumps(tern.system_info()))
        tern.self_test()

    def test_load_errors_have_their_texts(self):
        self.assertEqual("".join("\t".join(line) + "\n" for line in load_errors()), golden("load-errors.txt"))

    def test_load_reports_progress_and_stops(self):
        seen = []
        tern.Model(MODEL, progress=lambda f: seen.append(f) or True)
        self.assertTrue(seen and seen == sorted(seen) and seen[-1] <= 1, seen)
        self.refused(Status.CANCELLED, tern.Model, MODEL, progress=lambda f: False)
        with self.assertRaises(ZeroDivisionError):
            tern.Model(MODEL, progress=lambda f: 1 / 0)
        with tern.Cancel() as cancel:
            cancel.set()
            self.refused(Status.CANCELLED, tern.Model, MODEL, cancel=cancel)
            cancel.reset()
            tern.Model(MODEL, cancel=cancel).close()

    def test_load_from_bytes_and_descriptor(self):
        want = self.model.info
        self.assertEqual({**tern.Model(Path(MODEL).read_bytes()).info, "file_bytes": 0}, {**want, "file_bytes": 0})
        with open(MODEL, "rb") as file:
            self.assertEqual(tern.Model(file.fileno()).info["n_vocab"], want["n_vocab"])
        self.assertGreater(want["n_vocab"], 0)
        self.assertEqual(self.model.meta()["general.architecture"], "bitnet-b1.58")

    # ---- text

    def test_tokens_come_back_as_text(self):
        text = golden("text.txt")
        tokens = self.model.tokenize(text)
        self.assertEqual(tokens, [int(t) for t in golden("text-tokens.txt").split()])
        self.assertEqual(self.model.detokenize(tokens, remove_special=True), text)
        self.assertEqual(b"".join(map(self.model.piece, self.model.tokenize(text, special=False))), text.encode())
        self.assertEqual(self.model.tokenize("", special=False), [])

    def test_characters_split_over_tokens_come_whole(self):
        text = "a🦙b👩‍👩‍👧é"
        tokens = self.model.tokenize(text, special=False)
        self.assertGreater(len(tokens), len(text), "the model's vocabulary has these characters whole: choose rarer ones")
        with tern.Detok(self.model) as detok:
            pieces = [detok.push(t) for t in tokens]
            self.assertIn("", pieces)
            self.assertEqual("".join(pieces) + detok.finish(), text)
            for t in self.model.tokenize("🦙", special=False)[:-1]:
                self.assertEqual(detok.push(t), "")
            self.assertEqual(set(detok.finish()), {"\ufffd"})

    def test_a_stream_gives_whole_characters(self):
        session = self.model.session()
        # The two share their first bytes, so a token often ends inside one. (What a grammar leaves no choice in comes at once.)
        with self.model.grammar(tern.REGEX, "(🦙|🌍){6}") as grammar:
            session.start("Hi", grammar=grammar, sampler=tern.Sampler(3).temp(1))
            chunks = []
            while not chunks or chunks[-1].status != Status.DONE:
                chunks.append(session.next())
        text = "".join(c.text for c in chunks)
        self.assertRegex(text, "^(🦙|🌍){6}$")
        self.assertGreater(sum(c.text != "" for c in chunks), 3, chunks)
        self.assertIn("", [c.text for c in chunks[:-1]], "no chunk ended inside a character")
        self.assertEqual(session.messages[-1], {"role": "assistant", "content": text})

    # ---- generation

    def test_greedy_text_is_golden(self):
        self.assertEqual(generate(self.model, golden("story-prompt.txt"), 64, tern.Sampler()), golden("story-greedy.txt"))

    def test_seeded_text_is_golden(self):
        sampler = tern.Sampler(7).top_k(40).temp(0.8)
        self.assertEqual(generate(self.model, golden("story-prompt.txt"), 64, sampler), golden("story-seed7.txt"))

    def test_chat_is_golden(self):
        self.assertEqual(chat_greedy(self.model.session()), golden("chat-greedy.txt"))

    def test_json_schema_is_kept(self):
        session = self.model.session()
        with self.model.grammar(tern.JSON_SCHEMA, SCHEMA) as grammar:
            for seed in range(4):
                answer = json.loads(session.respond("Who?", grammar=grammar, sampler=tern.Sampler(seed).temp(1), max_tokens=120))
                self.assertEqual(set(answer), set(SCHEMA["properties"]))
                self.assertIn(answer["name"], ("Tom", "Lily"))
                self.assertIsInstance(answer["age"], int)
                self.assertLessEqual(set(answer["tags"]), {"big", "red"})
        self.refused(Status.GRAMMAR, self.model.grammar, tern.REGEX, "(")

    def test_stop_strings_are_not_shown(self):
        whole = golden("chat-greedy.txt")
        stop = whole[20:24]
        self.assertEqual(chat_greedy(self.model.session(), stop=[stop, "never said"]), whole[:whole.index(stop)])

    # ---- cancel

    def test_cancel_in_the_middle_of_a_prefill(self):
        tokens = self.model.tokenize(golden("story-prompt.txt") * 12)
        whole = self.model.context()
        whole.eval(tokens)
        context, cancel = self.model.context(), tern.Cancel()
        done = context.eval(tokens, cancel=cancel, budget_us=1)
        self.assertLess(done, len(tokens))
        cancel.set()
        error = self.refused(Status.CANCELLED, context.eval, tokens[done:], cancel=cancel)
        self.assertEqual(context.length(), done + error.done)
        cancel.reset()
        done = context.length()
        while done < len(tokens):
            done += context.eval(tokens[done:], cancel=cancel, budget_us=200)
        self.assertEqual(context.logits(), whole.logits())

    def test_cancel_of_an_answer_from_another_thread(self):
        session, cancel, pieces = self.model.session(), tern.Cancel(), []
        with self.assertRaises(TernError) as caught:
            for piece in session.ask("Tell me a story.", cancel=cancel, sampler=tern.Sampler().logit_bias(self.endless())):
                pieces.append(piece)
                if len(pieces) == 3:
                    thread = threading.Thread(target=cancel.set)
                    thread.start()
                    thread.join()
        self.assertEqual(caught.exception.code, Status.CANCELLED)
        self.assertTrue(session.messages[-1]["content"].startswith("".join(pieces)))
        cancel.reset()
        self.assertTrue(session.respond("Hi", sampler=tern.Sampler(), max_tokens=4))

    def endless(self):
        """A bias under which no answer ends by itself."""
        return {t: float("-inf") for t in range(self.model.info["n_vocab"]) if self.model.is_eog(t)}

    def test_leaving_a_stream_ends_the_answer(self):
        session = self.model.session()
        for piece in session.ask("Tell me a story.", sampler=tern.Sampler()):
            break
        self.assertEqual(session.messages[-1]["content"][:len(piece)], piece)
        self.assertTrue(session.respond("Hi", sampler=tern.Sampler(), max_tokens=4))

    # ---- fork, save, threads

    def test_fork_save_and_restore_say_the_same(self):
        session = self.model.session("You are a pirate.")
        session.respond("Hi", sampler=tern.Sampler(), max_tokens=8)
        fork, restored = session.fork(), tern.Session.restore(self.model, session.save())
        answers = [chat_greedy(s) for s in (session, fork, restored)]
        self.assertEqual(answers, [answers[0]] * 3)
        self.assertEqual(session.messages, fork.messages)
        self.assertEqual(session.messages, restored.messages)
        self.assertEqual(len(session.messages), 5, session.messages)
        self.refused(Status.STATE_MISMATCH, tern.Session.restore, self.model, b"no state")

    def test_sequences_fork_save_and_load(self):
        context = self.model.context(n_seq_max=3)
        tokens = self.model.tokenize(golden("story-prompt.txt"))
        context.eval(tokens)
        context.fork(0, 1)
        context.state_load(context.state_save(0), 2)
        rows = []
        for seq in range(3):
            self.assertEqual(context.length(seq), len(tokens))
            context.eval(tokens[:1], seq=seq)
            rows.append(context.logits())
        self.assertEqual(rows, [rows[0]] * 3)
        context.truncate(3)
        self.assertEqual(context.common_prefix(tokens), 3)
        self.refused(Status.INVALID_ARGUMENT, context.length, 3)

    def test_two_sessions_on_two_threads(self):
        answers = [None, None]

        def run(i):
            with self.model.session() as session:
                answers[i] = chat_greedy(session)
        threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(answers, [golden("chat-greedy.txt")] * 2)

    def test_a_call_from_inside_a_call_is_busy(self):
        context, told = self.model.context(), []

        def look(logits):
            try:
                context.length()
            except TernError as e:
                told.append(e.code)
        context.eval([1])
        tern.Sampler().custom(look).sample(context)
        self.assertEqual(told, [Status.BUSY])
        gc.collect()
        self.assertEqual(tern._customs, {})

    def test_transcript(self):
        session = self.model.session()
        session.messages = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello."), ("user", "How are you?")]
        session.start(None, sampler=tern.Sampler(), max_tokens=4)
        while session.next().status != Status.DONE:
            pass
        self.assertEqual([m["role"] for m in session.messages], ["system", "user", "assistant", "user", "assistant"])
        copy = self.model.session()
        copy.transcript = session.transcript
        self.assertEqual(copy.messages, session.messages)
        self.refused(Status.INVALID_STATE, session.next)
        text = self.model.apply_chat_template([("user", "Hi")])
        self.assertIn("Hi", text)

    # ---- lifetimes

    def test_double_close_and_use_after_close(self):
        model = tern.Model(MODEL)
        session, context, sampler, detok = model.session(), model.context(), tern.Sampler(), tern.Detok(model)
        grammar, cancel = model.grammar(tern.JSON), tern.Cancel()
        model.close()
        self.assertEqual(chat_greedy(session), golden("chat-greedy.txt"))  # holds the model
        for handle, use in ((model, lambda: model.info), (session, lambda: session.respond("Hi")), (context, lambda: context.eval([1])),
                            (sampler, sampler.reset), (detok, lambda: detok.push(1)), (grammar, lambda: sampler.grammar(grammar)),
                            (cancel, cancel.set)):
            handle.close()
            handle.close()
            self.assertTrue(handle.closed)
            with self.assertRaises(ValueError):
                use()

    def test_close_during_a_call_waits_for_it(self):
        session = self.model.session()
        with self.assertRaises(ValueError):
            for _ in session.ask("Tell me a story.", sampler=tern.Sampler()):
                session.close()
        context = self.model.context()
        context.eval([1])
        tern.Sampler().custom(lambda logits: context.close()).sample(context)
        self.assertTrue(context.closed)

    def flat(self, rounds, round_):
        """Resident memory does not grow: after a warm-up, `rounds` rounds add less than 2 MiB."""
        for _ in range(rounds // 5 + 20):
            round_()
        gc.collect()
        before = resident()
        for _ in range(rounds):
            round_()
        gc.collect()
        self.assertLess(resident() - before, 2 << 20, f"bytes more after {rounds} rounds")

    def test_memory_stays_flat_over_loads_and_sessions(self):
        def round_():
            with tern.Model(MODEL) as model, model.session("Be brief.") as session, tern.Sampler(1) as sampler:
                session.respond("Hi", sampler=sampler.top_k(40), max_tokens=2)
                with session.fork() as fork:
                    fork.respond("Hi", max_tokens=1)
                model.context().eval([1])
                tern.Detok(model).push(1)
                model.grammar(tern.CHOICE, ["a", "b"])
        self.flat(ROUNDS, round_)

    def test_memory_stays_flat_over_small_handles(self):
        def round_():
            with tern.Sampler(1), tern.Cancel() as cancel:
                try:
                    tern.Model("/no such file", cancel=cancel)
                except TernError:
                    pass
        self.flat(ROUNDS * 100, round_)


if __name__ == "__main__":
    if "--bless" in sys.argv:
        bless()
    else:
        unittest.main()
