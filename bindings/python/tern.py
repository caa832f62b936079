"""tern for Python: a ternary language model inside your program. Over ctypes, without dependencies.

Long because it is one file: it can be copied into a notebook's folder, and that is all there is to install.

    import tern
    model = tern.Model("model.gguf")
    for piece in model.session("You are a pirate.").ask("Is water wet?"):
        print(piece, end="", flush=True)

The shared library is looked for as $TERN_LIBRARY, beside this file, and where the system keeps libraries.

Handles close with `close()`, at the end of a `with` block, or with the last reference; every order is right. A closed handle
raises ValueError. A failed call raises TernError, which carries the status as `code`. Models and grammars serve any number of
threads; a context, sampler, detok or session serves one at a time, and a second one is told `Status.BUSY`.
"""

import ctypes as C
import ctypes.util
import enum
import json
import os
import sys
import threading
from array import array
from contextlib import contextmanager

VERSION = (0, 1, 0)  # of the header this file was written for

# ---- the C surface ---------------------------------------------------------------------------------------------------

# name: result, then parameters. p pointer, z size_t, i int32, u uint32, U uint64, f float, s static C string, v nothing.
_PROTOTYPES = dict(pair.split(":") for pair in """
tern_version_number:u tern_version_string:s tern_status_name:si tern_error_code:ip tern_error_message:sp tern_error_free:vp
tern_log_set:vppi tern_system_info:ipzp tern_self_test:ip tern_cancel_new:ip tern_cancel_set:vp tern_cancel_reset:vp
tern_cancel_free:vp tern_threadpool_params_init:vpz tern_threadpool_new:ipp tern_threadpool_free:vp
tern_model_params_init:vpz tern_reader_init:vpz tern_model_load_from_file:ipppp tern_model_load_from_fd:iiUUppp
tern_model_load_from_handle:ipUUppp tern_model_load_from_memory:ipzppppp tern_model_load_from_reader:ipppp
tern_model_retain:pp tern_model_free:vp tern_convert_params_init:vpz tern_model_convert:ipppp tern_model_info_init:vpz
tern_model_get_info:ipp tern_model_meta_count:ipp tern_model_meta_at:ipzpppzp tern_model_meta_get:ippzpzp
tern_model_chat_template:ippzp tern_tokenize:ippzupzp tern_detokenize:ippzupzp tern_token_to_piece:ipiupzp
tern_token_is_eog:ipip tern_token_is_control:ipip tern_detok_new:ipup tern_detok_push:ipipp tern_detok_finish:ippp
tern_detok_free:vp tern_chat_options_init:vpz tern_chat_apply_template:ippzzppzpp tern_context_params_init:vpz
tern_memory_plan_init:vpz tern_memory_plan_for_file:ippppp tern_context_new:ipppp tern_context_free:vp
tern_context_trim:ipip tern_eval_options_init:vpz tern_eval:ippzpp tern_eval_batch:ippzzpp tern_logits:ipzpp
tern_logprobs_top:ipzzppp tern_embedding:ipipp tern_score:ippzppzp tern_choose:ipppzppp tern_seq_length:ipip
tern_seq_truncate:ipiu tern_seq_fork:ipii tern_seq_shift:ipiuu tern_seq_clear:ipi tern_seq_common_prefix:ipipzp
tern_seq_state_save:ipipzp tern_seq_state_load:ipipz tern_seq_prefix_save:ipipp tern_seq_prefix_map:ipipp
tern_grammar_compile:ipipzpp tern_grammar_retain:pp tern_grammar_free:vp tern_sampler_new:iUp tern_sampler_clone:ipp
tern_sampler_free:vp tern_sampler_add_logit_bias:ippzz tern_sampler_add_penalties:ipifff tern_sampler_add_dry:ipffii
tern_sampler_add_top_k:ipi tern_sampler_add_top_p:ipfz tern_sampler_add_min_p:ipfz tern_sampler_add_typical:ipfz
tern_sampler_add_top_n_sigma:ipf tern_sampler_add_xtc:ipffz tern_sampler_add_temp:ipf tern_sampler_add_temp_dynamic:ipfff
tern_sampler_add_mirostat_v2:ipff tern_sampler_add_grammar:ipp tern_sampler_add_custom:ipppp tern_sampler_sample:ippzp
tern_sampler_sample_logits:ippzp tern_sampler_accept:ipi tern_sampler_reset:ip tern_session_params_init:vpz
tern_generate_options_init:vpz tern_chunk_init:vpz tern_session_new:ipppp tern_session_free:vp tern_session_prewarm:ipp
tern_session_set_messages:ippzzp tern_session_transcript_to_json:ippzp tern_session_transcript_from_json:ippzp
tern_session_start:ippzpp tern_session_next:ipUp tern_session_stop:ip tern_session_respond:ippzpppp tern_session_fork:ipp
tern_session_save:ippzp tern_session_restore:ippzppp tern_session_context:ipp tern_perf_init:vpz tern_context_perf:ipp
tern_context_perf_reset:ip
""".split())

_TYPES = {"p": C.c_void_p, "z": C.c_size_t, "i": C.c_int32, "u": C.c_uint32, "U": C.c_uint64, "f": C.c_float,
          "s": C.c_char_p, "v": None}


class _Library:
    """The shared library, opened at the first call. A function it lacks is missed only when it is called."""

    def __getattr__(self, name):
        if name == "_dll":
            self._dll = dll = self._open()
            return dll
        result, *parameters = _PROTOTYPES[name]
        function = getattr(self._dll, name)
        function.restype, function.argtypes = _TYPES[result], [_TYPES[p] for p in parameters]
        setattr(self, name, function)
        return function

    @staticmethod
    def _open():
        name = {"win32": "tern.dll", "darwin": "libtern.dylib"}.get(sys.platform, "libtern.so.0")
        beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
        path = os.environ.get("TERN_LIBRARY") or (beside if os.path.exists(beside) else None)
        dll = C.CDLL(path or C.util.find_library("tern") or name)
        dll.tern_version_number.restype = C.c_uint32
        _check_version(dll.tern_version_number())
        return dll


def _check_version(number):
    """While the major is 0 a minor may break; from 1 on only the major does, and newer minors are fine."""
    major, minor = number // 1000000, number // 1000 % 1000
    if major != VERSION[0] or (minor != VERSION[1] if major == 0 else minor < VERSION[1]):
        raise ImportError(f"libtern is {major}.{minor}, tern.py is for {VERSION[0]}.{VERSION[1]}")


_lib = _Library()


class Status(enum.IntEnum):
    """What a call answered: 0 done, above it conditions, below it errors."""
    OK = 0
    DONE = 1
    PENDING = 2
    INVALID_ARGUMENT = -1
    OUT_OF_MEMORY = -2
    IO = -3
    BAD_MODEL = -4
    UNSUPPORTED_MODEL = -5
    UNSUPPORTED = -6
    BUFFER_TOO_SMALL = -7
    CONTEXT_FULL = -8
    CANCELLED = -9
    BUSY = -10
    GRAMMAR = -11
    STATE_MISMATCH = -12
    PANIC = -13
    POISONED = -14
    INVALID_STATE = -15
    NOT_FOUND = -16


class Finish(enum.IntEnum):
    """Why a generation ended."""
    NONE, EOG, STOP, LENGTH, CONTEXT_FULL, CANCELLED = range(6)


class TernError(Exception):
    """A call failed: `code` is a Status (a plain int for one this file does not know), the text says where and why."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = Status(code) if code in Status._value2member_map_ else code


def _struct(name, fields, sized=True):
    """A struct of the header. A sized one begins with its own size and starts as its defaults."""
    def init(self, **values):
        C.Structure.__init__(self)
        if sized:
            self.size = C.sizeof(self)
        for field, value in values.items():
            setattr(self, field, value)
    pairs = [part.split(":") for part in fields.split()]
    fields = ([("size", C.c_size_t)] if sized else []) + [(n, _TYPES[t]) for n, t in pairs]
    return type(name, (C.Structure,), {"_fields_": fields, "__init__": init})


_ThreadpoolParams = _struct("tern_threadpool_params", "n_threads:u qos:i spin_us:i cpus:p n_cpus:z parallel_for:p "
                            "parallel_for_user_data:p")
_ModelParams = _struct("tern_model_params", "flags:u kernels:p kernels_len:z progress:p progress_user_data:p cancel:p")
_ConvertParams = _struct("tern_convert_params", "flags:u progress:p progress_user_data:p cancel:p")
_ModelInfo = _struct("tern_model_info", "n_vocab:u n_ctx_train:u n_embd:u n_layer:u n_head:u n_head_kv:u n_params:U "
                     "weight_bytes:U file_bytes:U bos:i eos:i eot:i")
_Message = _struct("tern_message", "role:p role_len:z content:p content_len:z", sized=False)
_ChatOptions = _struct("tern_chat_options", "flags:u chat_template:p chat_template_len:z")
_ContextParams = _struct("tern_context_params", "n_ctx:u n_seq_max:u n_batch:u kv_type:i pooling:i flags:u kv_bytes_max:U "
                         "threadpool:p")
_MemoryPlan = _struct("tern_memory_plan", "weights_mapped:U weights_heap:U kv:U scratch:U")
_EvalOptions = _struct("tern_eval_options", "seq:i flags:u budget_us:U cancel:p")
_BatchItem = _struct("tern_batch_item", "token:i seq:i want_logits:u", sized=False)
_LogitBias = _struct("tern_logit_bias", "token:i bias:f", sized=False)
_SessionParams = _struct("tern_session_params", "instructions:p instructions_len:z chat_template:p chat_template_len:z on_full:i "
                         "n_keep:u flags:u context:p")
_GenerateOptions = _struct("tern_generate_options", "max_tokens:u draft:i n_draft_max:u stop:p stop_lens:p n_stop:z sampler:p "
                           "grammar:p cancel:p")
_Chunk = _struct("tern_chunk", "utf8:p len:z token:i logprob:f finish_reason:i")
_Perf = _struct("tern_perf", "load_us:U prefill_us:U decode_us:U sample_us:U first_token_us:U n_prefill:U n_prefill_reused:U "
                "n_decode:U n_drafted:U n_draft_accepted:U peak_heap_bytes:U")

_PROGRESS = C.CFUNCTYPE(C.c_int32, C.c_void_p, C.c_float)
_LOG = C.CFUNCTYPE(None, C.c_void_p, C.c_int32, C.c_void_p, C.c_size_t)
_LOGITS = C.CFUNCTYPE(None, C.c_void_p, C.POINTER(C.c_float), C.c_size_t)
_RELEASE = C.CFUNCTYPE(None, C.c_void_p)


def _check(status, error=None):
    """Raises for an error; gives back OK, DONE and PENDING."""
    if status >= 0:
        return status
    message = _lib.tern_status_name(status).decode()
    if error:
        message = _lib.tern_error_message(error).decode("utf-8", "replace") or message
        _lib.tern_error_free(error)
    raise TernError(status, message)


def _checked(function, *arguments):
    """A call whose last parameter is out_error."""
    error = C.c_void_p()
    return _check(function(*arguments, C.byref(error)), error)


def _bytes(call):
    """Text out: asks for the size, then for the bytes."""
    n = C.c_size_t()
    _check(call(None, 0, C.byref(n)))
    buffer = C.create_string_buffer(n.value + 1)
    _check(call(buffer, n.value + 1, C.byref(n)))
    return buffer.raw[:n.value]


def _tokens(tokens):
    return (C.c_int32 * len(tokens))(*tokens), len(tokens)


def _address(data):
    """A bytes object as a struct field; the caller keeps it alive."""
    return None if data is None else C.cast(C.c_char_p(data), C.c_void_p)


def _utf8(text):
    return None if text is None else text.encode()


class _Handle:
    """One reference to something of the library. A close during a call on another thread waits for that call."""
    _free = None

    def __init__(self, pointer):
        self._lock, self._users = threading.Lock(), 0
        self._pointer, self._closing = pointer, None

    def close(self):
        """Gives the reference back; again, or never, is fine."""
        with self._lock:
            pointer, self._pointer = self._pointer, None
            if self._users and pointer:
                pointer, self._closing = None, pointer  # the last user frees it
        if pointer:
            getattr(_lib, self._free)(pointer)

    @contextmanager
    def _use(self):
        with self._lock:
            if not self._pointer:
                raise ValueError(f"{type(self).__name__} is closed")
            self._users += 1
            pointer = self._pointer
        try:
            yield pointer
        finally:
            with self._lock:
                self._users -= 1
                last = None
                if not self._users:
                    last, self._closing = self._closing, None
            if last:
                getattr(_lib, self._free)(last)

    def _call(self, name, *arguments, error=False):
        """Calls a function of this handle: numbers and buffers as they are, handles by their pointer."""
        with self._use() as pointer:
            function = getattr(_lib, name)
            return _checked(function, pointer, *arguments) if error else _check(function(pointer, *arguments))

    def _make(self, name, *arguments, error=False):
        """The pointer that a constructor on this handle writes: out_handle, then out_error if it has one."""
        with self._use() as pointer:
            return _make(getattr(_lib, name), pointer, *arguments, error=error)

    @property
    def closed(self):
        """Whether the reference was given back."""
        return self._pointer is None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_pointer", None):
            self.close()


@contextmanager
def _borrow(handle):
    """The pointer of a handle that may be None."""
    if handle is None:
        yield None
    else:
        with handle._use() as pointer:
            yield pointer


def _make(function, *arguments, error=False):
    pointer = C.c_void_p()
    if error:
        _checked(function, *arguments, C.byref(pointer))
    else:
        _check(function(*arguments, C.byref(pointer)))
    return pointer.value


def _wrap(cls, pointer):
    """A handle of `cls` around a reference it takes over."""
    handle = cls.__new__(cls)
    _Handle.__init__(handle, pointer)
    return handle


# ---- the library -----------------------------------------------------------------------------------------------------

def version():
    """The version of the loaded library."""
    return _lib.tern_version_string().decode()


def system_info():
    """CPU, kernel tables and build, as a dict."""
    return json.loads(_bytes(_lib.tern_system_info))


def self_test():
    """Checks every kernel table this CPU can run against the scalar one."""
    _checked(_lib.tern_self_test)


_log = None


def set_log(function, min_level=1):
    """Calls `function(level, text)` for each log line, on whatever thread writes it; None turns it off."""
    global _log
    new = None if function is None else _LOG(lambda _, level, text, n: function(level, C.string_at(text, n).decode()))
    _lib.tern_log_set(new, None, min_level)
    _log = new  # the old one may go only after the library let go of it


class Cancel(_Handle):
    """Stops the calls it was given to, from any thread."""
    _free = "tern_cancel_free"

    def __init__(self):
        _Handle.__init__(self, _make(_lib.tern_cancel_new))

    def set(self):
        """Asks the calls to stop."""
        with self._use() as pointer:
            _lib.tern_cancel_set(pointer)

    def reset(self):
        """Lets calls run again."""
        with self._use() as pointer:
            _lib.tern_cancel_reset(pointer)


class ThreadPool(_Handle):
    """Threads that contexts share."""
    _free = "tern_threadpool_free"

    def __init__(self, n_threads=0, qos=0, spin_us=0):
        params = _ThreadpoolParams(n_threads=n_threads, qos=qos, spin_us=spin_us)
        _Handle.__init__(self, _make(_lib.tern_threadpool_new, C.byref(params)))


# ---- model -----------------------------------------------------------------------------------------------------------

VOCAB_ONLY, NO_MMAP, MLOCK, VERIFY = 1, 2, 4, 8                      # flags of Model
JSON, JSON_SCHEMA, REGEX, GBNF, CHOICE, LARK = range(6)              # kinds of Grammar
ON_FULL_ERROR, ON_FULL_DROP_TURNS, ON_FULL_SHIFT = range(3)          # on_full of a session
DRAFT_NONE, DRAFT_PROMPT_LOOKUP = range(2)                           # draft of a generation
KV_F16, KV_I8 = range(2)                                             # kv_type of a context
POOL_LAST, POOL_MEAN = range(2)                                      # pooling of a context
CTX_EMBEDDINGS, CTX_FAST_HEAD = 1, 2                                 # flags of a context
LOGITS_LAST, LOGITS_ALL, LOGITS_NONE = range(3)                      # logits of Context.eval
TRIM_SCRATCH, TRIM_KV = range(2)                                     # level of Context.trim


@contextmanager
def _model_params(flags=0, kernels=None, progress=None, cancel=None):
    kernels = _utf8(kernels)
    raised = []

    def report(_, fraction):
        try:
            return 0 if progress(fraction) is False else 1
        except BaseException as e:  # must not cross the C frames: the load stops, then it is raised
            raised.append(e)
            return 0
    call = _PROGRESS(report) if progress else None
    with _borrow(cancel) as token:
        try:
            yield C.byref(_ModelParams(flags=flags, kernels=_address(kernels), kernels_len=len(kernels or b""),
                                       progress=C.cast(call, C.c_void_p) if call else None, cancel=token))
        except TernError:
            if not raised:
                raise
    if raised:
        raise raised[0]


class Model(_Handle):
    """What was learnt: immutable, shared by any number of threads, contexts and sessions.

    `source` is a path, bytes (copied), or an open file's descriptor. `progress(fraction)` returning False stops the load, as
    `cancel` does from another thread."""
    _free = "tern_model_free"

    def __init__(self, source, flags=0, kernels=None, progress=None, cancel=None):
        with _model_params(flags, kernels, progress, cancel) as params:
            if isinstance(source, int):
                made = _make(_lib.tern_model_load_from_fd, source, 0, 0, params, error=True)
            elif isinstance(source, (bytes, bytearray, memoryview)):
                data = bytes(source)
                made = _make(_lib.tern_model_load_from_memory, data, len(data), None, None, params, error=True)
            else:
                made = _make(_lib.tern_model_load_from_file, os.fsencode(source), params, error=True)
            _Handle.__init__(self, made)

    @property
    def info(self):
        """Sizes and special tokens, by the header's names."""
        info = _ModelInfo()
        self._call("tern_model_get_info", C.byref(info))
        return {name: getattr(info, name) for name, _ in info._fields_[1:]}

    def meta(self):
        """The file's metadata, as text."""
        pairs, n = {}, C.c_size_t()
        self._call("tern_model_meta_count", C.byref(n))
        for i in range(n.value):
            key, key_len = C.c_void_p(), C.c_size_t()
            value = _bytes(lambda *out: self._call("tern_model_meta_at", i, C.byref(key), C.byref(key_len), *out))
            pairs[C.string_at(key, key_len.value).decode()] = value.decode("utf-8", "replace")
        return pairs

    @property
    def chat_template(self):
        """The Jinja template in use."""
        return _bytes(lambda *out: self._call("tern_model_chat_template", *out)).decode()

    def convert(self, path, progress=None, cancel=None):
        """Writes the packed form, which maps in milliseconds and opens on every CPU."""
        with _model_params(progress=progress, cancel=cancel) as params:
            old = params._obj
            params = _ConvertParams(progress=old.progress, cancel=old.cancel)
            self._call("tern_model_convert", os.fsencode(path), C.byref(params), error=True)

    def tokenize(self, text, special=True, parse_special=False):
        """Text to a list of tokens; `special` adds what the model wants at the start."""
        text, n = _utf8(text), C.c_size_t()
        flags = (1 if special else 0) | (2 if parse_special else 0)
        self._call("tern_tokenize", text, len(text), flags, None, 0, C.byref(n))
        buffer = (C.c_int32 * n.value)()
        self._call("tern_tokenize", text, len(text), flags, buffer, n.value, C.byref(n))
        return buffer[:n.value]

    def detokenize(self, tokens, remove_special=False, render_special=False):
        """Tokens to text; a torn code point becomes U+FFFD."""
        flags = (1 if remove_special else 0) | (2 if render_special else 0)
        array, n = _tokens(tokens)
        return _bytes(lambda *out: self._call("tern_detokenize", array, n, flags, *out)).decode("utf-8", "replace")

    def piece(self, token, render_special=False):
        """The bytes of one token, which may be a part of a code point."""
        return _bytes(lambda *out: self._call("tern_token_to_piece", token, 2 if render_special else 0, *out))

    def is_eog(self, token):
        """Whether a token ends a generation."""
        out = C.c_int32()
        self._call("tern_token_is_eog", token, C.byref(out))
        return out.value != 0

    def is_control(self, token):
        """Whether a token is a marker rather than text."""
        out = C.c_int32()
        self._call("tern_token_is_control", token, C.byref(out))
        return out.value != 0

    def apply_chat_template(self, messages, add_generation_prompt=True, chat_template=None):
        """Messages, (role, content) pairs, to the text the model reads."""
        template, (array, n, _keep) = _utf8(chat_template), _messages(messages)
        options = _ChatOptions(flags=int(add_generation_prompt), chat_template=_address(template),
                               chat_template_len=len(template or b""))
        return _bytes(lambda *out: self._call("tern_chat_apply_template", array, C.sizeof(_Message), n, C.byref(options), *out,
                                              error=True)).decode()

    def context(self, **params):
        """A new Context of this model."""
        return Context(self, **params)

    def session(self, instructions=None, **params):
        """A new chat with this model."""
        return Session(self, instructions, **params)

    def grammar(self, kind, source=""):
        """Compiles a grammar for this model's tokens."""
        return Grammar(self, kind, source)


def _messages(messages):
    """(role, content) pairs or dicts as a C array, its length, and what must outlive it."""
    pairs = [(m["role"], m["content"]) if isinstance(m, dict) else m for m in messages]
    keep = [(role.encode(), content.encode()) for role, content in pairs]
    array = (_Message * len(keep))(*[_Message(role=_address(r), role_len=len(r), content=_address(c), content_len=len(c))
                                     for r, c in keep])
    return array, len(keep), keep


def memory_plan(path, **context):
    """Bytes that a model file and a context on it will take; reads the header only."""
    plan = _MemoryPlan()
    with _context_params(**context) as params:
        _checked(_lib.tern_memory_plan_for_file, os.fsencode(path), None, params, C.byref(plan))
    return {name: getattr(plan, name) for name, _ in plan._fields_[1:]}


class Detok(_Handle):
    """Tokens to whole code points, as they come."""
    _free = "tern_detok_free"

    def __init__(self, model, render_special=False):
        _Handle.__init__(self, model._make("tern_detok_new", 2 if render_special else 0))

    def push(self, token):
        """The text that this token completes, often ""."""
        return self._text("tern_detok_push", token)

    def finish(self):
        """What is left, with U+FFFD for a torn end."""
        return self._text("tern_detok_finish")

    def _text(self, name, *arguments):
        text, n = C.c_void_p(), C.c_size_t()
        with self._use() as pointer:
            _check(getattr(_lib, name)(pointer, *arguments, C.byref(text), C.byref(n)))
            return C.string_at(text, n.value).decode() if n.value else ""


class Grammar(_Handle):
    """What may be said: compiled once, shared by any number of threads. `source` of JSON_SCHEMA may be a dict, of CHOICE a list."""
    _free = "tern_grammar_free"

    def __init__(self, model, kind, source=""):
        text = (source if isinstance(source, str) else json.dumps(source, ensure_ascii=False)).encode()
        _Handle.__init__(self, model._make("tern_grammar_compile", kind, text, len(text), error=True))


# ---- sampler ---------------------------------------------------------------------------------------------------------

class Sampler(_Handle):
    """A chain of steps that ends in a choice; empty: the likeliest token. Each step returns the sampler."""
    _free = "tern_sampler_free"

    def __init__(self, seed=0):
        _Handle.__init__(self, _make(_lib.tern_sampler_new, seed))

    def _add(self, name, *arguments):
        self._call("tern_sampler_add_" + name, *arguments)
        return self

    def logit_bias(self, bias):
        """`bias`: {token: what is added}."""
        items = (_LogitBias * len(bias))(*[_LogitBias(token=t, bias=b) for t, b in bias.items()])
        return self._add("logit_bias", items, C.sizeof(_LogitBias), len(bias))

    def penalties(self, last_n, repeat=1.0, freq=0.0, present=0.0):
        """Against repeating the last `last_n` tokens."""
        return self._add("penalties", last_n, repeat, freq, present)

    def dry(self, multiplier, base=1.75, allowed_length=2, last_n=-1):
        """Against repeating runs of tokens."""
        return self._add("dry", multiplier, base, allowed_length, last_n)

    def top_k(self, k):
        """Keeps the k likeliest."""
        return self._add("top_k", k)

    def top_p(self, p, min_keep=1):
        """Keeps the likeliest that make up p."""
        return self._add("top_p", p, min_keep)

    def min_p(self, p, min_keep=1):
        """Keeps those at least p times as likely as the best."""
        return self._add("min_p", p, min_keep)

    def typical(self, p, min_keep=1):
        """Keeps those of typical surprise that make up p."""
        return self._add("typical", p, min_keep)

    def top_n_sigma(self, n):
        """Keeps those within n standard deviations of the best."""
        return self._add("top_n_sigma", n)

    def xtc(self, probability, threshold, min_keep=1):
        """Now and then drops the likeliest above the threshold but one."""
        return self._add("xtc", probability, threshold, min_keep)

    def temp(self, t):
        """Temperature; 0 or less leaves the best."""
        return self._add("temp", t)

    def temp_dynamic(self, t, range, exponent=1.0):
        """Temperature by entropy, t - range to t + range."""
        return self._add("temp_dynamic", t, range, exponent)

    def mirostat_v2(self, tau=5.0, eta=0.1):
        """Holds the surprise at tau."""
        return self._add("mirostat_v2", tau, eta)

    def grammar(self, grammar):
        """Only what the grammar allows."""
        with grammar._use() as pointer:
            return self._add("grammar", pointer)

    def custom(self, function):
        """`function(logits)` edits a writable view of floats in place, in its turn of the chain."""
        def apply(_, logits, n):
            function((C.c_float * n).from_address(C.addressof(logits.contents)))
        key = object()
        calls = _LOGITS(apply), _RELEASE(lambda _: _customs.pop(key, None))
        _customs[key] = calls  # alive until the last clone has gone
        try:
            return self._add("custom", calls[0], calls[1], None)
        except BaseException:
            _customs.pop(key, None)
            raise

    def clone(self):
        """With its random state and history."""
        with self._use() as pointer:
            return _wrap(Sampler, _make(_lib.tern_sampler_clone, pointer))

    def sample(self, context, i=0):
        """Picks from row i of the last eval and remembers the choice."""
        token = C.c_int32()
        with context._use() as pointer:
            self._call("tern_sampler_sample", pointer, i, C.byref(token))
        return token.value

    def sample_logits(self, logits):
        """The same on a row of the host's."""
        token, row = C.c_int32(), array("f", logits)
        address, n = row.buffer_info()
        self._call("tern_sampler_sample_logits", address, n, C.byref(token))
        return token.value

    def accept(self, token):
        """Remembers a token chosen elsewhere."""
        self._call("tern_sampler_accept", token)

    def reset(self):
        """History, grammar and seed as at first."""
        self._call("tern_sampler_reset")


_customs = {}


# ---- context ---------------------------------------------------------------------------------------------------------

@contextmanager
def _context_params(threadpool=None, **params):
    with _borrow(threadpool) as pool:
        yield C.byref(_ContextParams(threadpool=pool, **params))


class Context(_Handle):
    """What moves: sequences of tokens with their keys and values. One thread at a time.

    Parameters by the header's names: n_ctx, n_seq_max, n_batch, kv_type, pooling, flags, kv_bytes_max, threadpool."""
    _free = "tern_context_free"

    def __init__(self, model, **params):
        with _context_params(**params) as params:
            _Handle.__init__(self, model._make("tern_context_new", params, error=True))

    def eval(self, tokens, seq=0, logits=LOGITS_LAST, cancel=None, budget_us=0):
        """Appends tokens to a sequence. Gives back how many were appended: fewer when the budget ran out.

        Cancelled: raises, with the number as `done` of the error."""
        items, n = _tokens(tokens)
        return self._eval("tern_eval", (items, n), _EvalOptions(seq=seq, flags=logits, budget_us=budget_us), cancel)

    def eval_batch(self, items, cancel=None, budget_us=0):
        """Appends (token, seq, want_logits) items in one pass over the weights."""
        batch = (_BatchItem * len(items))(*[_BatchItem(token=t, seq=s, want_logits=int(w)) for t, s, w in items])
        options = _EvalOptions(budget_us=budget_us)
        return self._eval("tern_eval_batch", (batch, C.sizeof(_BatchItem), len(items)), options, cancel)

    def _eval(self, name, arguments, options, cancel):
        done = C.c_size_t()
        with _borrow(cancel) as options.cancel:
            try:
                self._call(name, *arguments, C.byref(options), C.byref(done))
            except TernError as e:
                e.done = done.value
                raise
        return done.value

    def logits(self, i=0):
        """Row i of the last eval: an array of floats, copied."""
        return self._floats("tern_logits", i)

    def embedding(self, seq=0):
        """The pooled sequence, of length 1; needs CTX_EMBEDDINGS."""
        return self._floats("tern_embedding", seq)

    def _floats(self, name, which):
        values, n = C.c_void_p(), C.c_size_t()
        with self._use() as pointer:
            _check(getattr(_lib, name)(pointer, which, C.byref(values), C.byref(n)))
            return array("f", C.string_at(values, n.value * 4))

    def logprobs_top(self, k, i=0):
        """The k likeliest of row i: (token, log-probability) pairs."""
        tokens, values, n = (C.c_int32 * k)(), (C.c_float * k)(), C.c_size_t()
        self._call("tern_logprobs_top", i, k, tokens, values, C.byref(n))
        return list(zip(tokens[:n.value], values[:n.value]))

    def score(self, tokens, seq=0, cancel=None):
        """Log-probabilities of tokens as the continuation of a sequence, which stays as it was."""
        (items, n), values, used = _tokens(tokens), (C.c_float * len(tokens))(), C.c_size_t()
        with _borrow(cancel) as token:
            options = _EvalOptions(seq=seq, cancel=token)
            self._call("tern_score", items, n, C.byref(options), values, n, C.byref(used))
        return values[:used.value]

    def choose(self, choices, seq=0, cancel=None):
        """Which string continues a sequence: its index and all probabilities."""
        texts = [c.encode() for c in choices]
        pointers, lens = (C.c_char_p * len(texts))(*texts), (C.c_size_t * len(texts))(*map(len, texts))
        index, probs = C.c_size_t(), (C.c_float * len(texts))()
        with _borrow(cancel) as token:
            options = _EvalOptions(seq=seq, cancel=token)
            self._call("tern_choose", pointers, lens, len(texts), C.byref(options), C.byref(index), probs)
        return index.value, list(probs)

    def length(self, seq=0):
        """Tokens in a sequence."""
        n = C.c_uint32()
        self._call("tern_seq_length", seq, C.byref(n))
        return n.value

    def truncate(self, new_length, seq=0):
        """Drops the tokens from new_length on."""
        self._call("tern_seq_truncate", seq, new_length)

    def fork(self, source, target):
        """Makes an empty sequence the same as another, at no cost."""
        self._call("tern_seq_fork", source, target)

    def shift(self, n_keep, n_discard, seq=0):
        """Drops n_discard tokens after the first n_keep; outside the determinism contract."""
        self._call("tern_seq_shift", seq, n_keep, n_discard)

    def clear(self, seq=0):
        """Empties a sequence."""
        self._call("tern_seq_clear", seq)

    def common_prefix(self, tokens, seq=0):
        """How many of these tokens a sequence begins with."""
        (items, n), out = _tokens(tokens), C.c_size_t()
        self._call("tern_seq_common_prefix", seq, items, n, C.byref(out))
        return out.value

    def state_save(self, seq=0):
        """A sequence as bytes."""
        return _bytes(lambda *out: self._call("tern_seq_state_save", seq, *out))

    def state_load(self, data, seq=0):
        """Replaces a sequence with a saved one."""
        self._call("tern_seq_state_load", seq, bytes(data), len(data))

    def prefix_save(self, path, seq=0):
        """Writes a sequence to a file that any number of processes can map."""
        self._call("tern_seq_prefix_save", seq, os.fsencode(path), error=True)

    def prefix_map(self, path, seq=0):
        """Maps such a file into an empty sequence."""
        self._call("tern_seq_prefix_map", seq, os.fsencode(path), error=True)

    def trim(self, level=TRIM_SCRATCH):
        """Frees memory; the bytes freed."""
        out = C.c_uint64()
        self._call("tern_context_trim", level, C.byref(out))
        return out.value

    def perf(self):
        """Counters, by the header's names."""
        perf = _Perf()
        self._call("tern_context_perf", C.byref(perf))
        return {name: getattr(perf, name) for name, _ in perf._fields_[1:]}

    def perf_reset(self):
        """Counters to zero."""
        self._call("tern_context_perf_reset")


# ---- session ---------------------------------------------------------------------------------------------------------

class Chunk:
    """A step of a generation: text, token, logprob, and why it ended if it did."""
    __slots__ = ("status", "text", "token", "logprob", "finish")

    def __init__(self, status, chunk):
        self.status = Status(status)
        self.text = C.string_at(chunk.utf8, chunk.len).decode() if chunk.len else ""
        self.token, self.logprob, self.finish = chunk.token, chunk.logprob, Finish(chunk.finish_reason)


class Session(_Handle):
    """A conversation. Context parameters may be given by name: n_ctx, kv_type, threadpool, ..."""
    _free = "tern_session_free"

    def __init__(self, model, instructions=None, chat_template=None, on_full=ON_FULL_ERROR, n_keep=0, restore=None, **context):
        instructions, template = _utf8(instructions), _utf8(chat_template)
        with _context_params(**context) as below:
            params = C.byref(_SessionParams(
                instructions=_address(instructions), instructions_len=len(instructions or b""), chat_template=_address(template),
                chat_template_len=len(template or b""), on_full=on_full, n_keep=n_keep, context=C.addressof(below._obj)))
            if restore is None:
                made = model._make("tern_session_new", params, error=True)
            else:
                made = model._make("tern_session_restore", bytes(restore), len(restore), params, error=True)
        _Handle.__init__(self, made)

    def ask(self, text, **options):
        """Streams the answer in pieces of whole characters. Leaving the loop ends the answer; what was said stays.

        Options: max_tokens, sampler, grammar, stop (a list of strings), draft, n_draft_max, cancel."""
        self.start(text, **options)
        running = True
        try:
            while running:
                chunk = self.next()
                running = chunk.status != Status.DONE
                if chunk.text:
                    yield chunk.text
        except TernError:
            running = False
            raise
        finally:
            if running and not self.closed:
                self.stop()

    def respond(self, text, **options):
        """The whole answer."""
        return "".join(self.ask(text, **options))

    def start(self, text=None, max_tokens=0, sampler=None, grammar=None, stop=(), draft=DRAFT_NONE, n_draft_max=0, cancel=None):
        """Begins an answer and evaluates nothing; `next` does. None answers the transcript as it stands."""
        text, stops = _utf8(text), [s.encode() for s in stop]
        pointers, lens = (C.c_char_p * len(stops))(*stops), (C.c_size_t * len(stops))(*map(len, stops))
        with _borrow(sampler) as s, _borrow(grammar) as g, _borrow(cancel) as c:
            options = _GenerateOptions(
                max_tokens=max_tokens, draft=draft, n_draft_max=n_draft_max, stop=C.addressof(pointers) if stops else None,
                stop_lens=C.addressof(lens) if stops else None, n_stop=len(stops), sampler=s, grammar=g, cancel=c)
            self._call("tern_session_start", text, len(text or b""), C.byref(options), error=True)

    def next(self, budget_us=0):
        """One step: a Chunk whose status is OK, PENDING (budget spent) or DONE."""
        chunk = _Chunk()
        with self._use() as pointer:
            status = _check(_lib.tern_session_next(pointer, budget_us, C.byref(chunk)))
            return Chunk(status, chunk)

    def stop(self):
        """Ends an answer early; what was said stays."""
        self._call("tern_session_stop")

    def prewarm(self, cancel=None):
        """Evaluates what the transcript holds, so that the first token comes sooner."""
        with _borrow(cancel) as token:
            self._call("tern_session_prewarm", token)

    @property
    def messages(self):
        """The transcript: dicts of role and content. Setting it reuses what stays the same."""
        return json.loads(self.transcript)

    @messages.setter
    def messages(self, messages):
        array, n, _keep = _messages(messages)
        self._call("tern_session_set_messages", array, C.sizeof(_Message), n, error=True)

    @property
    def transcript(self):
        """The transcript as JSON text; can be set."""
        return _bytes(lambda *out: self._call("tern_session_transcript_to_json", *out)).decode()

    @transcript.setter
    def transcript(self, text):
        data = text.encode()
        self._call("tern_session_transcript_from_json", data, len(data), error=True)

    def fork(self):
        """The same conversation once more, with a context of its own."""
        with self._use() as pointer:
            return _wrap(Session, _make(_lib.tern_session_fork, pointer))

    def save(self):
        """The conversation as bytes."""
        return _bytes(lambda *out: self._call("tern_session_save", *out))

    @classmethod
    def restore(cls, model, data, **params):
        """A saved conversation, with nothing to evaluate again."""
        return cls(model, restore=data, **params)

    def context(self):
        """The context underneath, borrowed: it lives as long as the session and is not to be closed."""
        out = C.c_void_p()
        self._call("tern_session_context", C.byref(out))
        return _Borrowed(self, out.value)


class _Borrowed(Context):
    """A session's own context: every use holds the session."""

    def __init__(self, session, pointer):
        _Handle.__init__(self, pointer)
        self._session = session

    @contextmanager
    def _use(self):
        with self._session._use():
            yield self._pointer

    def close(self):
        """Nothing: the session owns it."""
