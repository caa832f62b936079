#ifndef TERN_H
#define TERN_H

#include <stddef.h>
#include <stdint.h>

/* tern: a ternary language model inside any native program.
 *
 *   tern_model *m = NULL; tern_session *s = NULL; tern_error *e = NULL;
 *   if (tern_model_load_from_file(path, NULL, &m, &e) == TERN_OK &&
 *       tern_session_new(m, NULL, &s, &e) == TERN_OK)
 *     tern_session_respond(s, "Hello!", TERN_NUL_TERMINATED, NULL, on_chunk, &n, &e);
 *   if (e) fprintf(stderr, "%s\n", tern_error_message(e));
 *   tern_session_free(s); tern_model_free(m); tern_error_free(e);
 *
 * Errors    Status < 0: the call failed and wrote no output. Exceptions: *out_len / *out_n on BUFFER_TOO_SMALL, *out_done on
 *           CANCELLED and PENDING, *out_error on any failure. Every call may return INVALID_ARGUMENT, OUT_OF_MEMORY, BUSY,
 *           PANIC, POISONED; the comments name the others.
 * Threads   const T *: any number of threads. T *: one at a time. A call that meets a mutating one on the same handle, a const
 *           call too, and a call made from a callback of that handle, return BUSY. Exceptions: tern_cancel_set / _reset,
 *           tern_log_set.
 * Ownership _new, _load_*, _compile, _clone, _fork, _restore, _retain give a reference that the matching _free releases.
 *           Handles hold what they stand on, so any order of frees is right. Freeing a handle in use marks it; the running
 *           call releases it. What a call is given ends with the call, unless its comment says that it is kept.
 * Text      UTF-8, pointer + length, TERN_NUL_TERMINATED for a C string. Paths alone are bare C strings, UTF-8 on Windows too.
 * Buffers   buf NULL with cap 0 asks for the size and returns OK. A NUL is added where there is room and never counted.
 * Structs   `size` first; X_init(&x, sizeof x) zeroes and sets it; a zero field is the default; NULL options are all defaults.
 *           In structs that are written, `size` is an input. Arrays of structs come with item_size = sizeof of one.
 * Truth     int32_t: 0 is false, all else true.
 * NULL      Allowed for options, cancel, out_error, callbacks, user_data, arrays of no items, and where a comment says so; else
 *           INVALID_ARGUMENT.
 * Callbacks user_data first. Must not unwind or longjmp. None runs after the call that was given it has returned, except a
 *           reader's (until close), a release, a custom sampler and a host job system.
 * Since     Everything here is since 0.1.0. */

/* ---- version: compile time and run time must be comparable; while MAJOR is 0 a MINOR may break ---- */
#define TERN_VERSION_MAJOR 0
#define TERN_VERSION_MINOR 1
#define TERN_VERSION_PATCH 0
#define TERN_VERSION_NUMBER ((TERN_VERSION_MAJOR * 1000 + TERN_VERSION_MINOR) * 1000 + TERN_VERSION_PATCH)

/* ---- linkage: default is "plain extern" so that the static library just links ---- */
#if defined(_WIN32) && defined(TERN_DLL_EXPORT)
#  define TERN_API __declspec(dllexport)
#elif defined(_WIN32) && defined(TERN_DLL)
#  define TERN_API __declspec(dllimport)
#elif defined(__GNUC__) || defined(__clang__)
#  define TERN_API __attribute__((visibility("default")))
#else
#  define TERN_API
#endif
#if defined(__GNUC__) || defined(__clang__)
#  define TERN_MUST_USE __attribute__((warn_unused_result))
#else
#  define TERN_MUST_USE
#endif

#define TERN_NUL_TERMINATED SIZE_MAX    /* as a length: up to the first NUL */

#ifdef __cplusplus
extern "C" {
#endif

/* ==== handles: opaque ==== */
typedef struct tern_error      tern_error;      /* one failure: a status and what there is to say about it */
typedef struct tern_cancel     tern_cancel;     /* a flag that any thread may raise */
typedef struct tern_threadpool tern_threadpool; /* threads that contexts share */
typedef struct tern_model      tern_model;      /* a model: immutable, counted, for any number of threads */
typedef struct tern_detok      tern_detok;      /* turns tokens into text as they come */
typedef struct tern_context    tern_context;    /* keys, values and scratch; one thread at a time */
typedef struct tern_grammar    tern_grammar;    /* a compiled grammar: immutable, counted, for any number of threads */
typedef struct tern_sampler    tern_sampler;    /* a chain of steps with its random state */
typedef struct tern_session    tern_session;    /* chat on top of all the others; one thread at a time */

/* ==== status: fixed-width "enums", typedef + constants, so no compiler picks another size ==== */
/* How a call ended: 0, above 0 no error, below 0 an error. */
typedef int32_t tern_status;
enum {
  TERN_OK                    =   0, /* the call did what it says */
  TERN_DONE                  =   1, /* end of generation: not an error */
  TERN_PENDING               =   2, /* time budget spent; call again */
  TERN_ERR_INVALID_ARGUMENT  =  -1, /* a value outside the contract; includes an unexpected NULL */
  TERN_ERR_OUT_OF_MEMORY     =  -2, /* the system has no memory left */
  TERN_ERR_IO                =  -3, /* the system, or the host's reader, refused */
  TERN_ERR_BAD_MODEL         =  -4, /* truncated, corrupt, bad checksum, logits without a number */
  TERN_ERR_UNSUPPORTED_MODEL =  -5, /* well formed, but not ours: the message names the type */
  TERN_ERR_UNSUPPORTED       =  -6, /* option or feature that this build, system or version lacks */
  TERN_ERR_BUFFER_TOO_SMALL  =  -7, /* *out_len / *out_n holds the needed size */
  TERN_ERR_CONTEXT_FULL      =  -8, /* n_ctx or kv_bytes_max; nothing was changed */
  TERN_ERR_CANCELLED         =  -9, /* by token or callback; whole tokens only */
  TERN_ERR_BUSY              = -10, /* the handle is in use on another thread, or re-entered */
  TERN_ERR_GRAMMAR           = -11, /* does not compile, or leaves no candidate */
  TERN_ERR_STATE_MISMATCH    = -12, /* saved state of another model or version */
  TERN_ERR_PANIC             = -13, /* a bug in tern; the handle is poisoned */
  TERN_ERR_POISONED          = -14, /* after a panic: only free works */
  TERN_ERR_INVALID_STATE     = -15, /* right call, wrong moment: sample before eval, next without start */
  TERN_ERR_NOT_FOUND         = -16  /* no such key or index */
};
/* A token id; -1: none. */
typedef int32_t tern_token;
/* A sequence of a context: 0 .. n_seq_max - 1. */
typedef int32_t tern_seq;
/* Told the fraction done, on the calling thread; 0 cancels. */
typedef int32_t (*tern_progress_fn)(void *user_data, float fraction);
/* Called exactly once, on any thread. */
typedef void (*tern_release_fn)(void *user_data);

/* The name of a status, "TERN_ERR_IO"; "TERN_?" for a stranger. Static. */
TERN_API const char *tern_status_name(tern_status status);

/* ==== library ==== */
/* The version of the library, as TERN_VERSION_NUMBER is that of the header: compare them at start. */
TERN_API uint32_t tern_version_number(void);
/* "0.1.0". Static. */
TERN_API const char *tern_version_string(void);
/* CPU features, kernel tables, version and build as JSON. Size query: buf NULL, cap 0. */
TERN_API tern_status tern_system_info(char *buf, size_t cap, size_t *out_len);
/* Every kernel table that this CPU can run against the plainest code, in less than 50 ms. OK, or PANIC with an
   error that names table and kernel. Reports only: what a model uses is settled when it loads. */
TERN_API tern_status tern_self_test(tern_error **out_error);

/* ==== errors: one failure, owned by the caller ==== */
/* The status of an error; OK for NULL. Any thread. */
TERN_API tern_status tern_error_code(const tern_error *error);
/* What happened, where, and what helps: one line of UTF-8. Lives as long as the error; "" for NULL. Any thread. */
TERN_API const char *tern_error_message(const tern_error *error);
/* Releases an error; NULL is fine. */
TERN_API void tern_error_free(tern_error *error);

/* ==== log: silent unless set; the one process-wide state ==== */
enum {
  TERN_LOG_DEBUG = 0, /* details of calls that failed, for developers */
  TERN_LOG_INFO  = 1, /* what happened */
  TERN_LOG_WARN  = 2, /* what works, but not as it should */
  TERN_LOG_ERROR = 3  /* bugs of tern */
};
/* Told one message: UTF-8 of `len` bytes, not NUL-terminated, gone when it returns. Any thread, several at a time. */
typedef void (*tern_log_fn)(void *user_data, int32_t level, const char *utf8, size_t len);

/* Sets the process's log callback; nothing is logged, or printed, unless one is set. Messages below `min_level`
   are left out. NULL removes it. When the call returns, no call of the former callback is running any more, save
   the one this call is made from. What tern logs while the callback runs on the same thread is dropped.
   Any thread. */
TERN_API void tern_log_set(tern_log_fn log, void *user_data, int32_t min_level);

/* ==== cancellation: set and reset from any thread ==== */
/* Makes a cancel token that is not set. Free it with tern_cancel_free. */
TERN_API TERN_MUST_USE tern_status tern_cancel_new(tern_cancel **out_cancel);
/* Asks every call that was given the token to stop soon. Any thread; async-signal-safe; NULL does nothing. */
TERN_API void tern_cancel_set(tern_cancel *cancel);
/* Makes a token fit for another call. Any thread; NULL does nothing. */
TERN_API void tern_cancel_reset(tern_cancel *cancel);
/* Releases a token; NULL is fine. Safe while a call polls it: that call holds a reference. */
TERN_API void tern_cancel_free(tern_cancel *cancel);

/* ==== threads ==== */
enum {
  TERN_QOS_DEFAULT     = 0, /* as the system treats any thread */
  TERN_QOS_BACKGROUND  = 1, /* nobody waits for it */
  TERN_QOS_UTILITY     = 2, /* somebody will look later */
  TERN_QOS_INTERACTIVE = 3  /* somebody waits */
};
/* One job of many: does part i. */
typedef void (*tern_job_fn)(void *arg, uint32_t i);
/* Host job system. Run job(arg, i) once for each i < n, in any order, on any number of threads, the caller's
   included, and return after all have. Jobs are independent and never wait for each other. job and arg end with
   the call. */
typedef void (*tern_parallel_for_fn)(void *user_data, uint32_t n, tern_job_fn job, void *arg);

/* How threads are started. Zeros are the defaults. */
typedef struct tern_threadpool_params {
  size_t size;                        /* = sizeof: first member of every struct that grows */
  uint32_t n_threads;                 /* 0 = performance cores; at most 256 */
  int32_t qos;                        /* TERN_QOS_* */
  int32_t spin_us;                    /* at a join, before parking; 0 = tern's choice, -1 = never */
  const uint32_t *cpus;               /* worker i is pinned to cpus[i % n_cpus]; copied; NULL = left to the system */
  size_t n_cpus;
  tern_parallel_for_fn parallel_for;  /* set: tern starts no thread of its own, n_threads = jobs to cut into */
  void *parallel_for_user_data;       /* must outlive the pool */
} tern_threadpool_params;
TERN_API void tern_threadpool_params_init(tern_threadpool_params *params, size_t size);

/* Starts threads that contexts may share. `params` NULL = all defaults. IO if the system starts none.
   Free it with tern_threadpool_free. */
TERN_API TERN_MUST_USE tern_status tern_threadpool_new(const tern_threadpool_params *params,
    tern_threadpool **out_threadpool);
/* Releases a pool; NULL is fine. Its threads are joined with the last context that uses it. Any thread. */
TERN_API void tern_threadpool_free(tern_threadpool *threadpool);

/* ==== model: loading ==== */
enum {
  TERN_MODEL_VOCAB_ONLY = 1, /* vocabulary and metadata alone, no weights */
  TERN_MODEL_NO_MMAP    = 2, /* read the file into memory instead of mapping it */
  TERN_MODEL_MLOCK      = 4, /* ask the system to keep mapped pages in memory */
  TERN_MODEL_VERIFY     = 8  /* look at every value of the file */
};
/* How a model is loaded. Zeros are the defaults. */
typedef struct tern_model_params {
  size_t size;
  uint32_t flags;                     /* TERN_MODEL_* */
  /* "scalar", "avx2", ... as in tern_system_info; NULL = the best that passes its check;
     unknown or not for this CPU: UNSUPPORTED */
  const char *kernels;
  size_t kernels_len;
  tern_progress_fn progress;
  void *progress_user_data;
  const tern_cancel *cancel;
} tern_model_params;
TERN_API void tern_model_params_init(tern_model_params *params, size_t size);

/* Bytes that the host fetches: out of archives, encrypted files, assets. */
typedef struct tern_reader {
  size_t size;
  void *user_data;
  uint64_t length;                    /* bytes of the model */
  /* fills dst with all n bytes and returns non-zero, or returns 0; any thread, one at a time */
  int32_t (*read_at)(void *user_data, uint64_t offset, void *dst, size_t n);
  tern_release_fn close;              /* after the last read_at, also when the load fails; may be NULL */
} tern_reader;
TERN_API void tern_reader_init(tern_reader *reader, size_t size);

/* Loads a model; *out_model is one reference, for tern_model_free. `params` NULL = all defaults. IO, BAD_MODEL,
   UNSUPPORTED_MODEL, CANCELLED; the error names the place and the remedy. The file must not change while it is in
   use, unless TERN_MODEL_NO_MMAP is set. */
TERN_API TERN_MUST_USE tern_status tern_model_load_from_file(const char *path_utf8, const tern_model_params *params,
    tern_model **out_model, tern_error **out_error);
/* The same from an open file: fd is dup'ed and mapped, its position ignored. `offset` may be odd; `length` 0 = to
   the end. Not a regular file: IO. Windows: UNSUPPORTED. */
TERN_API TERN_MUST_USE tern_status tern_model_load_from_fd(int32_t fd, uint64_t offset, uint64_t length,
    const tern_model_params *params, tern_model **out_model, tern_error **out_error);
/* The same for a Windows HANDLE, which is duplicated; Windows moves its position where bytes are read. Elsewhere
   UNSUPPORTED. */
TERN_API TERN_MUST_USE tern_status tern_model_load_from_handle(void *handle, uint64_t offset, uint64_t length,
    const tern_model_params *params, tern_model **out_model, tern_error **out_error);
/* The same from memory. `release` NULL: what is needed is copied before the return. Else the bytes are borrowed,
   without a copy, and must not change until release(user_data) is called: once, on any thread, also when the load
   fails. data may be unaligned. */
TERN_API TERN_MUST_USE tern_status tern_model_load_from_memory(const void *data, size_t len, tern_release_fn release,
    void *user_data, const tern_model_params *params, tern_model **out_model, tern_error **out_error);
/* The same through callbacks: for archives, encrypted files and assets. The struct is copied. `close` is called
   once, after the last read_at, on any thread, also when the load fails. */
TERN_API TERN_MUST_USE tern_status tern_model_load_from_reader(const tern_reader *reader,
    const tern_model_params *params, tern_model **out_model, tern_error **out_error);
/* The same model, one reference more; NULL for NULL. Any thread. */
TERN_API tern_model *tern_model_retain(const tern_model *model);
/* Releases one reference; NULL is fine. Contexts hold references of their own. Any thread. */
TERN_API void tern_model_free(tern_model *model);

/* ==== model: its packed form ==== */
/* How a model is converted. Zeros are the defaults. */
typedef struct tern_convert_params {
  size_t size;
  uint32_t flags;                     /* none yet: 0 */
  tern_progress_fn progress;
  void *progress_user_data;
  const tern_cancel *cancel;
} tern_convert_params;
TERN_API void tern_convert_params_init(tern_convert_params *params, size_t size);

/* Writes the packed form of a model, from whatever source it came: a GGUF that maps in milliseconds and opens on every
   CPU. Written beside dst and renamed, so an error or a cancel leaves dst as it was. A model loaded with
   TERN_MODEL_VOCAB_ONLY: INVALID_STATE. IO when the disk is full. `params` NULL = all defaults. */
TERN_API TERN_MUST_USE tern_status tern_model_convert(const tern_model *model, const char *dst_path_utf8,
    const tern_convert_params *params, tern_error **out_error);

/* ==== model: what is known of it ==== */
/* A model in numbers. Set its size with tern_model_info_init. */
typedef struct tern_model_info {
  size_t size;
  uint32_t n_vocab;
  uint32_t n_ctx_train;
  uint32_t n_embd;
  uint32_t n_layer;
  uint32_t n_head;
  uint32_t n_head_kv;
  uint64_t n_params;
  uint64_t weight_bytes;              /* bytes of the tensors in the file */
  uint64_t file_bytes;
  tern_token bos;                     /* -1: none */
  tern_token eos;
  tern_token eot;                     /* end of a turn */
} tern_model_info;
TERN_API void tern_model_info_init(tern_model_info *info, size_t size);

/* Fills *out_info as far as its size goes. */
TERN_API tern_status tern_model_get_info(const tern_model *model, tern_model_info *out_info);
/* How many keys the file's metadata has. */
TERN_API tern_status tern_model_meta_count(const tern_model *model, size_t *out_n);
/* Key and value at an index, in file order; NOT_FOUND from the count on. The key is not NUL-terminated and lives
   as long as the model; out_key and out_key_len may be NULL. The value comes as text: strings as they are, arrays
   as their length and kind. */
TERN_API tern_status tern_model_meta_at(const tern_model *model, size_t i, const char **out_key, size_t *out_key_len,
    char *buf, size_t cap, size_t *out_len);
/* The value of a key, as text as tern_model_meta_at gives it. NOT_FOUND. */
TERN_API tern_status tern_model_meta_get(const tern_model *model, const char *key, size_t key_len, char *buf,
    size_t cap, size_t *out_len);
/* The model's chat template in Jinja, as tern uses it: corrected where a converter is known to have written a wrong
   one. NOT_FOUND if the file has none. */
TERN_API tern_status tern_model_chat_template(const tern_model *model, char *buf, size_t cap, size_t *out_len);

/* ==== vocabulary: const model, so any number of threads ==== */
enum {
  TERN_TOK_ADD_SPECIAL   = 1, /* add the BOS and EOS that the model wants */
  TERN_TOK_PARSE_SPECIAL = 2  /* read names of control tokens as those tokens: never for text of users */
};

enum {
  TERN_DETOK_REMOVE_SPECIAL = 1, /* leave out a BOS at the start and an EOS at the end */
  TERN_DETOK_RENDER_SPECIAL = 2  /* write control tokens by their names; else they have no text */
};

/* The tokens of a text. `flags`: TERN_TOK_*. Size query: buf NULL, cap 0. */
TERN_API TERN_MUST_USE tern_status tern_tokenize(const tern_model *model, const char *text, size_t len, uint32_t flags,
    tern_token *buf, size_t cap, size_t *out_n);
/* The bytes of tokens: UTF-8, unless the tokens end within a character or stand for other bytes.
   `flags`: TERN_DETOK_*. */
TERN_API TERN_MUST_USE tern_status tern_detokenize(const tern_model *model, const tern_token *tokens, size_t n,
    uint32_t flags, char *buf, size_t cap, size_t *out_len);
/* The bytes of one token, perhaps a part of a character; none for a control token, unless `flags` has
   TERN_DETOK_RENDER_SPECIAL. */
TERN_API tern_status tern_token_to_piece(const tern_model *model, tern_token token, uint32_t flags, char *buf,
    size_t cap, size_t *out_len);
/* Whether a generation ends with the token: a turn's end or the text's. */
TERN_API tern_status tern_token_is_eog(const tern_model *model, tern_token token, int32_t *out_is_eog);
/* Whether the token marks structure and stands for no text. */
TERN_API tern_status tern_token_is_control(const tern_model *model, tern_token token, int32_t *out_is_control);

/* ==== tokens as they come: whole characters ==== */
/* Makes a decoder at the start of a text; holds a reference to the model. `flags`: TERN_DETOK_*.
   Free it with tern_detok_free. */
TERN_API TERN_MUST_USE tern_status tern_detok_new(const tern_model *model, uint32_t flags, tern_detok **out_detok);
/* Adds a token and gives the characters that are complete with it: never a part of one, perhaps none. Not
   NUL-terminated; lives until the next call on the decoder. */
TERN_API tern_status tern_detok_push(tern_detok *detok, tern_token token, const char **out_utf8, size_t *out_len);
/* Ends the text and gives the rest: U+FFFD for a torn end. The decoder is then at the start of another text. */
TERN_API tern_status tern_detok_finish(tern_detok *detok, const char **out_utf8, size_t *out_len);
/* Releases a decoder; NULL is fine. */
TERN_API void tern_detok_free(tern_detok *detok);

/* ==== chat: turns to text ==== */
/* One turn of a conversation. Arrays of it come with the size of one. */
typedef struct tern_message {
  const char *role;                   /* "system", "user", "assistant", or what else the template knows */
  size_t role_len;
  const char *content;
  size_t content_len;
} tern_message;

enum {
  TERN_CHAT_ADD_GENERATION_PROMPT = 1  /* end where the assistant's answer begins */
};
/* How turns become text. Zeros are the defaults. */
typedef struct tern_chat_options {
  size_t size;
  uint32_t flags;                     /* TERN_CHAT_* */
  const char *chat_template;          /* Jinja instead of the model's; NULL = the model's */
  size_t chat_template_len;
} tern_chat_options;
TERN_API void tern_chat_options_init(tern_chat_options *options, size_t size);

/* Messages to text, for tern_tokenize with ADD_SPECIAL and PARSE_SPECIAL. `item_size` is sizeof(tern_message);
   `options` NULL = all defaults. NOT_FOUND if neither the model nor the options have a template. The error carries
   the template's line, or what its raise_exception said (INVALID_ARGUMENT). */
TERN_API tern_status tern_chat_apply_template(const tern_model *model, const tern_message *messages, size_t item_size,
    size_t n, const tern_chat_options *options, char *buf, size_t cap, size_t *out_len, tern_error **out_error);

/* ==== context: keys, values and scratch ==== */
enum {
  TERN_KV_F16 = 0, /* two bytes a value */
  TERN_KV_I8  = 1  /* one byte a value, and a step per position and head */
};

enum {
  TERN_POOL_LAST = 0, /* the last token's state */
  TERN_POOL_MEAN = 1  /* the mean of all */
};

enum {
  TERN_CTX_EMBEDDINGS = 1, /* keep the states that tern_embedding needs */
  TERN_CTX_FAST_HEAD  = 2  /* screen a large head by four bits, not six: sooner, and all but surely the same tokens */
};
/* How a context is made. Zeros are the defaults. */
typedef struct tern_context_params {
  size_t size;
  uint32_t n_ctx;                     /* tokens per sequence; 0 = n_ctx_train */
  uint32_t n_seq_max;                 /* 0 = 1 */
  uint32_t n_batch;                   /* prefill slice in tokens, bounds scratch; 0 = tern's choice */
  int32_t kv_type;                    /* TERN_KV_* */
  int32_t pooling;                    /* TERN_POOL_*, for TERN_CTX_EMBEDDINGS */
  uint32_t flags;                     /* TERN_CTX_* */
  uint64_t kv_bytes_max;              /* cap on the pages held, all sequences; 0 = none */
  const tern_threadpool *threadpool;  /* retained; NULL = a pool owned by the model */
} tern_context_params;
TERN_API void tern_context_params_init(tern_context_params *params, size_t size);

/* Makes a context without tokens; holds a reference to the model. Pages of keys and values are allocated as they
   are used. `params` NULL = all defaults. INVALID_STATE for a model loaded with TERN_MODEL_VOCAB_ONLY.
   Free it with tern_context_free. */
TERN_API TERN_MUST_USE tern_status tern_context_new(const tern_model *model, const tern_context_params *params,
    tern_context **out_context, tern_error **out_error);
/* Releases a context; NULL is fine. One in use is released by the call that uses it. */
TERN_API void tern_context_free(tern_context *context);

enum {
  TERN_TRIM_SCRATCH = 0, /* buffers, kept rows, spare pages */
  TERN_TRIM_KV      = 1  /* the pages of keys and values too */
};

/* Gives memory back under pressure. After TERN_TRIM_KV sequences keep their tokens and the next eval computes them
   again; until then state_save and prefix_save: INVALID_STATE. Mapped weights stay. A half-done eval is dropped.
   out_freed: bytes; may be NULL. */
TERN_API tern_status tern_context_trim(tern_context *context, int32_t level, uint64_t *out_freed);

/* ==== memory: planned before anything is loaded ==== */
/* Bytes, by where they lie. Set its size with tern_memory_plan_init. */
typedef struct tern_memory_plan {
  size_t size;
  uint64_t weights_mapped;            /* parts of the file that stay mapped: the system may drop and reread them */
  uint64_t weights_heap;              /* packed weights and the vocabulary, in memory of their own */
  uint64_t kv;                        /* pages of keys and values with every sequence full, or kv_bytes_max */
  uint64_t scratch;                   /* buffers of a context */
} tern_memory_plan;
TERN_API void tern_memory_plan_init(tern_memory_plan *plan, size_t size);

/* What load and context will take with every sequence full, or kv_bytes_max. Reads the header only. Both params may be
   NULL = all defaults; progress and cancel of the model's are not used. Errors as tern_model_load_from_file. */
TERN_API tern_status tern_memory_plan_for_file(const char *path_utf8, const tern_model_params *model_params,
    const tern_context_params *context_params, tern_memory_plan *out_plan, tern_error **out_error);

/* ==== eval: tokens in; logits, scores and embeddings out ==== */
enum {
  TERN_EVAL_LOGITS_ALL  = 1, /* keep a row for every token */
  TERN_EVAL_LOGITS_NONE = 2  /* keep no row */
};
/* How tokens are appended. Zeros are the defaults. */
typedef struct tern_eval_options {
  size_t size;
  tern_seq seq;
  uint32_t flags;                     /* TERN_EVAL_*; 0: a row for the last token */
  uint64_t budget_us;                 /* 0 = none; else the call may return TERN_PENDING */
  const tern_cancel *cancel;
} tern_eval_options;
TERN_API void tern_eval_options_init(tern_eval_options *options, size_t size);

/* Appends tokens to a sequence. On error nothing is appended. On CANCELLED / PENDING *out_done tokens have been:
   never a part of one. After PENDING call again with the remaining tokens. CONTEXT_FULL. `options` NULL = all
   defaults; out_done may be NULL when there is neither cancel nor budget. */
TERN_API TERN_MUST_USE tern_status tern_eval(tern_context *context, const tern_token *tokens, size_t n,
    const tern_eval_options *options, size_t *out_done);

/* A token of a batch. Arrays of it come with the size of one. */
typedef struct tern_batch_item {
  tern_token token;
  tern_seq seq;
  uint32_t want_logits;               /* not 0: keep a row */
} tern_batch_item;

/* Appends to many sequences in one pass over the weights; items in order, *out_done of them appended. `item_size`
   is sizeof(tern_batch_item). seq and flags of the options must be 0. Else as tern_eval. */
TERN_API TERN_MUST_USE tern_status tern_eval_batch(tern_context *context, const tern_batch_item *items,
    size_t item_size, size_t n, const tern_eval_options *options, size_t *out_done);
/* Row i of the last eval, counting the requested rows from 0; n_vocab values. The head runs in this call. Borrowed
   until the next tern_logits or eval, or any other call that takes the context as `T *`. INVALID_STATE before an
   eval, NOT_FOUND past the last row. */
TERN_API tern_status tern_logits(tern_context *context, size_t i, const float **out_values, size_t *out_n);
/* The k most probable tokens of row i with their natural log-probabilities, best first. k slots each, *out_n used:
   fewer where fewer have a probability above 0. Errors as tern_logits; BAD_MODEL when no logit is a number. */
TERN_API tern_status tern_logprobs_top(tern_context *context, size_t i, size_t k, tern_token *out_tokens,
    float *out_logprobs, size_t *out_n);
/* A sequence pooled to one vector of n_embd values with L2 norm 1. Borrowed until the next call that takes the
   context as `T *`. INVALID_STATE without TERN_CTX_EMBEDDINGS, or for an empty sequence. */
TERN_API tern_status tern_embedding(tern_context *context, tern_seq s, const float **out_values, size_t *out_n);
/* Natural log-probabilities of given tokens as the continuation of options->seq, which stays as it was: n values,
   or n - 1 if it is empty. cap in values; size query: out_logprobs NULL, cap 0. budget_us and flags must be 0.
   CANCELLED writes nothing. */
TERN_API TERN_MUST_USE tern_status tern_score(tern_context *context, const tern_token *tokens, size_t n,
    const tern_eval_options *options, float *out_logprobs, size_t cap, size_t *out_n);
/* Which of n texts continues options->seq, which stays as it was; one shared prefill. *out_index: the likeliest,
   the first of equals. out_probs: n values that sum to 1, or NULL. lens NULL: all NUL-terminated. Each text is
   tokenized by itself, without special tokens; its weight is the product of its tokens' probabilities. Empty
   sequence: INVALID_STATE; empty text, or none: INVALID_ARGUMENT. budget_us and flags must be 0. */
TERN_API TERN_MUST_USE tern_status tern_choose(tern_context *context, const char *const *choices, const size_t *lens,
    size_t n, const tern_eval_options *options, size_t *out_index, float *out_probs);

/* ==== sequences (KV): s out of range is INVALID_ARGUMENT ==== */
/* How many tokens a sequence has. */
TERN_API tern_status tern_seq_length(const tern_context *context, tern_seq s, uint32_t *out_n);
/* Forgets the tokens from new_length on. A new_length above the length changes nothing. */
TERN_API tern_status tern_seq_truncate(tern_context *context, tern_seq s, uint32_t new_length);
/* Makes the empty sequence dst equal to src: O(1), pages are shared and copied on write. dst not empty:
   INVALID_STATE. */
TERN_API tern_status tern_seq_fork(tern_context *context, tern_seq src, tern_seq dst);
/* Keeps the first n_keep tokens, drops the next n_discard and moves the rest down. Outside the determinism
   contract: keys are rotated again. */
TERN_API tern_status tern_seq_shift(tern_context *context, tern_seq s, uint32_t n_keep, uint32_t n_discard);
/* Forgets all tokens of a sequence. */
TERN_API tern_status tern_seq_clear(tern_context *context, tern_seq s);
/* How many leading tokens of a sequence equal the given ones. */
TERN_API tern_status tern_seq_common_prefix(const tern_context *context, tern_seq s, const tern_token *tokens, size_t n,
    size_t *out_n);
/* A sequence as bytes: its tokens, keys and values, and what they belong to. Size query: buf NULL, cap 0.
   INVALID_STATE after TERN_TRIM_KV, until the next eval. */
TERN_API tern_status tern_seq_state_save(const tern_context *context, tern_seq s, void *buf, size_t cap,
    size_t *out_len);
/* Replaces a sequence by a saved one. STATE_MISMATCH for bytes of another model, kind or version, or damaged ones,
   leaves it as it was. data is not kept. */
TERN_API tern_status tern_seq_state_load(tern_context *context, tern_seq s, const void *data, size_t len);
/* Writes a sequence to a prompt file: one prefill for any number of processes and characters. Written beside the
   path and renamed. IO; INVALID_STATE as tern_seq_state_save. */
TERN_API tern_status tern_seq_prefix_save(const tern_context *context, tern_seq s, const char *path_utf8,
    tern_error **out_error);
/* Maps a prompt file into an empty sequence (else INVALID_STATE): copy on write, no prefill. The file must not
   change while a page of it is in use. IO, STATE_MISMATCH. */
TERN_API tern_status tern_seq_prefix_map(tern_context *context, tern_seq s, const char *path_utf8,
    tern_error **out_error);

/* ==== grammars: compiled once, shared by any number of threads and sessions ==== */
enum {
  TERN_GRAMMAR_JSON        = 0, /* any JSON value; src is ignored and may be NULL */
  TERN_GRAMMAR_JSON_SCHEMA = 1, /* a JSON Schema */
  TERN_GRAMMAR_REGEX       = 2, /* a regular expression for the whole text */
  TERN_GRAMMAR_GBNF        = 3, /* llama.cpp's notation */
  TERN_GRAMMAR_CHOICE      = 4, /* a JSON array of strings, one of which is the text */
  TERN_GRAMMAR_LARK        = 5  /* llguidance's dialect of Lark */
};

/* Compiles a grammar over the model's vocabulary. `kind`: TERN_GRAMMAR_*. src is not kept. GRAMMAR for a source that
   breaks its language, can never be satisfied or asks for too much: the error names line and column.
   Free it with tern_grammar_free. */
TERN_API TERN_MUST_USE tern_status tern_grammar_compile(const tern_model *model, int32_t kind, const char *src,
    size_t len, tern_grammar **out_grammar, tern_error **out_error);
/* The same grammar, one reference more; NULL for NULL. Any thread. */
TERN_API tern_grammar *tern_grammar_retain(const tern_grammar *grammar);
/* Releases one reference; NULL is fine. Any thread. */
TERN_API void tern_grammar_free(tern_grammar *grammar);

/* ==== sampling ==== */
/* What is added to a token's logit. Arrays of it come with the size of one. */
typedef struct tern_logit_bias {
  tern_token token;
  float bias;                         /* minus infinity forbids the token */
} tern_logit_bias;
/* Edits a whole row in place: tokens that earlier steps dropped are minus infinity and stay dropped. */
typedef void (*tern_logits_fn)(void *user_data, float *logits, size_t n);

/* Makes an empty chain, which takes the best token. Steps run in the order in which they are added; bias and
   grammars before all. Same seed, same text, on every system. Free it with tern_sampler_free. */
TERN_API TERN_MUST_USE tern_status tern_sampler_new(uint64_t seed, tern_sampler **out_sampler);
/* A chain that goes on exactly as the other would: with its random state and history. */
TERN_API TERN_MUST_USE tern_status tern_sampler_clone(const tern_sampler *sampler, tern_sampler **out_sampler);
/* Releases a sampler; NULL is fine. */
TERN_API void tern_sampler_free(tern_sampler *sampler);
/* Adds to the logits of single tokens, before every step; biases of one token add up. Copied. `item_size` is
   sizeof(tern_logit_bias). A token beyond the vocabulary is found when a row is sampled. */
TERN_API tern_status tern_sampler_add_logit_bias(tern_sampler *sampler, const tern_logit_bias *biases, size_t item_size,
    size_t n);
/* Makes tokens of the last last_n (0: off, -1: all) less likely: a positive logit is divided by repeat, a negative
   one multiplied; then freq is taken off for each occurrence and present once. 1, 0, 0 is off. */
TERN_API tern_status tern_sampler_add_penalties(tern_sampler *sampler, int32_t last_n, float repeat, float freq,
    float present);
/* Makes tokens that continue a repetition less likely, by multiplier * base ^ (length - allowed_length). */
TERN_API tern_status tern_sampler_add_dry(tern_sampler *sampler, float multiplier, float base, int32_t allowed_length,
    int32_t last_n);
/* Keeps the k best; 0 and below is off. */
TERN_API tern_status tern_sampler_add_top_k(tern_sampler *sampler, int32_t k);
/* Keeps the best whose probabilities together reach p, at least min_keep; 1 and above is off. */
TERN_API tern_status tern_sampler_add_top_p(tern_sampler *sampler, float p, size_t min_keep);
/* Keeps what is at least p times as probable as the best, at least min_keep; 0 is off. */
TERN_API tern_status tern_sampler_add_min_p(tern_sampler *sampler, float p, size_t min_keep);
/* Keeps those nearest the expected surprise until they pass p, at least min_keep; 1 and above is off. */
TERN_API tern_status tern_sampler_add_typical(tern_sampler *sampler, float p, size_t min_keep);
/* Drops logits more than n standard deviations below the best; 0 and below is off. */
TERN_API tern_status tern_sampler_add_top_n_sigma(tern_sampler *sampler, float n);
/* With a probability, drops all tokens of at least threshold but the least of them; leaves at least min_keep. */
TERN_API tern_status tern_sampler_add_xtc(tern_sampler *sampler, float probability, float threshold, size_t min_keep);
/* Divides logits by t; at 0 and below the best is taken. */
TERN_API tern_status tern_sampler_add_temp(tern_sampler *sampler, float t);
/* Temperature from t - range to t + range, by entropy to the power exponent. */
TERN_API tern_status tern_sampler_add_temp_dynamic(tern_sampler *sampler, float t, float range, float exponent);
/* Mirostat 2: drops what would surprise by more than a bound that follows tau bits at the rate eta. */
TERN_API tern_status tern_sampler_add_mirostat_v2(tern_sampler *sampler, float tau, float eta);
/* Lets only tokens through that a grammar allows, before every step, wherever the call stands among the others.
   Retained. It begins at the next token. INVALID_ARGUMENT for one of another vocabulary. */
TERN_API tern_status tern_sampler_add_grammar(tern_sampler *sampler, const tern_grammar *grammar);
/* Lets the host edit the logits: apply runs on the sampling thread, in its place in the chain. Clones share
   user_data; release, if not NULL, is called once, after the last of them is gone, also when this call fails. */
TERN_API tern_status tern_sampler_add_custom(tern_sampler *sampler, tern_logits_fn apply, tern_release_fn release,
    void *user_data);
/* Picks from row i of the last eval and accepts the token. INVALID_STATE before an eval, NOT_FOUND past the last
   row, GRAMMAR when nothing is allowed, BAD_MODEL when no logit is a number. On error the sampler is as it was. */
TERN_API tern_status tern_sampler_sample(tern_sampler *sampler, tern_context *context, size_t i, tern_token *out_token);
/* The same on the host's row of n logits, which stays as it is. */
TERN_API tern_status tern_sampler_sample_logits(tern_sampler *sampler, const float *logits, size_t n,
    tern_token *out_token);
/* Tells the chain of a token that was chosen elsewhere. GRAMMAR for one that a grammar forbids. */
TERN_API tern_status tern_sampler_accept(tern_sampler *sampler, tern_token token);
/* History, grammars and random state as they were when the sampler was made. */
TERN_API tern_status tern_sampler_reset(tern_sampler *sampler);

/* ==== session: what 9 of 10 embedders call ==== */
enum {
  TERN_ON_FULL_ERROR      = 0, /* the call fails, or the answer ends with TERN_FINISH_CONTEXT_FULL */
  TERN_ON_FULL_DROP_TURNS = 1, /* the oldest turns go, the instructions stay */
  TERN_ON_FULL_SHIFT      = 2  /* the first n_keep tokens stay, half of the rest goes; outside the determinism contract */
};
/* How a session is made. Zeros are the defaults. */
typedef struct tern_session_params {
  size_t size;
  const char *instructions;           /* system message; copied; NULL = none */
  size_t instructions_len;
  const char *chat_template;          /* Jinja; copied; NULL = the model's */
  size_t chat_template_len;
  int32_t on_full;                    /* TERN_ON_FULL_* */
  uint32_t n_keep;                    /* SHIFT: first tokens kept; 0 = the instructions */
  uint32_t flags;                     /* none yet: 0 */
  const tern_context_params *context; /* NULL = all defaults */
} tern_session_params;
TERN_API void tern_session_params_init(tern_session_params *params, size_t size);

/* Makes a session that has said nothing; holds a reference to the model. `params` NULL = all defaults. NOT_FOUND if
   neither the model nor the params have a chat template. Free it with tern_session_free. */
TERN_API TERN_MUST_USE tern_status tern_session_new(const tern_model *model, const tern_session_params *params,
    tern_session **out_session, tern_error **out_error);
/* Releases a session; NULL is fine. One in use is released by the call that uses it. */
TERN_API void tern_session_free(tern_session *session);
/* Evaluates what the transcript holds, ahead of the next question. `cancel` may be NULL. CANCELLED keeps what was
   evaluated. CONTEXT_FULL; INVALID_STATE while an answer is under way. */
TERN_API tern_status tern_session_prewarm(tern_session *session, const tern_cancel *cancel);
/* Replaces the transcript; what it shares with the old one, token by token, is not evaluated again. Copied. A first
   message of role system takes the place of the instructions; without one they stay. `item_size` is
   sizeof(tern_message). INVALID_STATE while an answer is under way. */
TERN_API tern_status tern_session_set_messages(tern_session *session, const tern_message *messages, size_t item_size,
    size_t n, tern_error **out_error);
/* The transcript as JSON: [{"role","content"}], the instructions first. Size query: buf NULL, cap 0. */
TERN_API tern_status tern_session_transcript_to_json(const tern_session *session, char *buf, size_t cap,
    size_t *out_len);
/* Replaces the transcript by one in JSON, as tern_session_set_messages. INVALID_ARGUMENT names line and column. */
TERN_API tern_status tern_session_transcript_from_json(tern_session *session, const char *json, size_t len,
    tern_error **out_error);
/* A session that goes on from here by itself, with a context of its own, so that two forks are never BUSY to each
   other; full pages are shared. INVALID_STATE while an answer is under way. */
TERN_API TERN_MUST_USE tern_status tern_session_fork(const tern_session *session, tern_session **out_session);
/* The whole session as bytes: transcript, template, keys and values. Size query: buf NULL, cap 0. INVALID_STATE
   while an answer is under way, and after TERN_TRIM_KV until the next eval. */
TERN_API tern_status tern_session_save(const tern_session *session, void *buf, size_t cap, size_t *out_len);
/* A session from saved bytes; data is not kept. Instructions, template and policy are the saved ones: instructions
   and chat_template are NULL in `params`. STATE_MISMATCH for bytes of another model or version, or damaged ones. */
TERN_API TERN_MUST_USE tern_status tern_session_restore(const tern_model *model, const void *data, size_t len,
    const tern_session_params *params, tern_session **out_session, tern_error **out_error);
/* The context below, whose sequence 0 is the session's. Borrowed until the session is freed: tern_context_free does
   nothing to it. While a call on the session runs, calls on it are BUSY, and the other way round. */
TERN_API tern_status tern_session_context(tern_session *session, tern_context **out_context);

/* ==== answers of a session: pull, no callback; or one call ==== */
enum {
  TERN_FINISH_NONE         = 0, /* there is more to come */
  TERN_FINISH_EOG          = 1, /* the model ended its turn */
  TERN_FINISH_STOP         = 2, /* a stop string came */
  TERN_FINISH_LENGTH       = 3, /* max_tokens; a grammar may be incomplete: nothing is added to close it */
  TERN_FINISH_CONTEXT_FULL = 4, /* the context is full */
  TERN_FINISH_CANCELLED    = 5  /* a cancel token, a callback or tern_session_stop */
};

enum {
  TERN_DRAFT_NONE          = 0, /* one token at a time */
  TERN_DRAFT_PROMPT_LOOKUP = 1  /* guess what followed the same words before, and verify: the same text, sooner */
};
/* How an answer is generated. Zeros are the defaults. */
typedef struct tern_generate_options {
  size_t size;
  uint32_t max_tokens;                /* 0 = to the end of the context */
  int32_t draft;                      /* TERN_DRAFT_*: the same text, sooner */
  uint32_t n_draft_max;               /* tokens a draft; 0 = tern's choice */
  const char *const *stop;            /* copied; never emitted, not even in part */
  const size_t *stop_lens;            /* NULL = all NUL-terminated */
  size_t n_stop;
  const tern_sampler *sampler;        /* cloned; NULL = the model's recommended chain */
  const tern_grammar *grammar;        /* retained */
  const tern_cancel *cancel;          /* retained */
} tern_generate_options;
TERN_API void tern_generate_options_init(tern_generate_options *options, size_t size);

/* A piece of an answer. Set its size with tern_chunk_init. */
typedef struct tern_chunk {
  size_t size;
  const char *utf8;                   /* whole code points, not NUL-terminated; lives until the next call on the session */
  size_t len;                         /* may be 0: text is held back */
  tern_token token;                   /* the newest, -1: none */
  float logprob;                      /* of that token, in the chain's distribution */
  int32_t finish_reason;              /* TERN_FINISH_*; NONE until DONE */
} tern_chunk;
TERN_API void tern_chunk_init(tern_chunk *chunk, size_t size);

/* Begins an answer to user_text; NULL answers the transcript as it stands. Copies all it is given and evaluates
   nothing. CONTEXT_FULL leaves the transcript as it was. While an answer is under way start, prewarm, set_messages,
   transcript_from_json, fork and save: INVALID_STATE. */
TERN_API tern_status tern_session_start(tern_session *session, const char *user_text, size_t len,
    const tern_generate_options *options, tern_error **out_error);
/* One step of the answer. OK: *out_chunk has the next piece, perhaps without text. PENDING: the budget of budget_us
   is spent (0: there is none), no text; call again. DONE, once: what was held back, and the finish reason; after it
   INVALID_STATE. CANCELLED, or any other error: the answer is over, what was said stays in the transcript. */
TERN_API tern_status tern_session_next(tern_session *session, uint64_t budget_us, tern_chunk *out_chunk);
/* Ends an answer early and keeps what was said; OK when none is under way. */
TERN_API tern_status tern_session_stop(tern_session *session);
/* Told each piece of an answer on the thread of tern_session_respond; 0 stops. The chunk ends with the call. */
typedef int32_t (*tern_chunk_fn)(void *user_data, const tern_chunk *chunk);
/* start and all steps in one call, on this thread. on_chunk NULL: to the end, without being told. CANCELLED if it
   returns 0: what was said stays in the transcript. */
TERN_API tern_status tern_session_respond(tern_session *session, const char *user_text, size_t len,
    const tern_generate_options *options, tern_chunk_fn on_chunk, void *user_data, tern_error **out_error);

/* ==== counters ==== */
/* Counters of a context. Set its size with tern_perf_init. */
typedef struct tern_perf {
  size_t size;
  uint64_t load_us;                   /* of the model */
  uint64_t prefill_us;
  uint64_t decode_us;
  uint64_t sample_us;
  uint64_t first_token_us;            /* from the first eval to the first sampled token */
  uint64_t n_prefill;
  uint64_t n_prefill_reused;          /* tokens that needed no pass because they were in the cache */
  uint64_t n_decode;
  uint64_t n_drafted;
  uint64_t n_draft_accepted;
  uint64_t peak_heap_bytes;           /* cache, scratch and kept rows together */
} tern_perf;
TERN_API void tern_perf_init(tern_perf *perf, size_t size);

/* Fills *out_perf as far as its size goes: counts since the context was made or reset. */
TERN_API tern_status tern_context_perf(const tern_context *context, tern_perf *out_perf);
/* Sets the counters to zero. */
TERN_API tern_status tern_context_perf_reset(tern_context *context);

#ifdef __cplusplus
}
#endif
#endif /* TERN_H */
