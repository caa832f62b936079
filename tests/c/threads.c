/* Two threads misuse every handle: each call is fine or BUSY, never a crash; and a busy handle is freed: threads MODEL FOLDER. */
#include "check.h"
#include <pthread.h>

#define ROUNDS 300
#define FINE(call) \
  do { \
    const tern_status is_ = (call); \
    if (is_ != TERN_OK && is_ != TERN_ERR_BUSY) { \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, tern_status_name(is_), #call); \
      exit(1); \
    } \
    if (is_ == TERN_ERR_BUSY) __atomic_fetch_add(&busy, 1, __ATOMIC_RELAXED); \
  } while (0)

static int busy, started;
static tern_model *m;
static tern_context *c;
static tern_sampler *s;
static tern_detok *d;
static tern_session *chat;
static tern_grammar *g;
static tern_token tokens[64];
static size_t n_tokens;

static void *misuse(void *arg) {
  tern_generate_options o;
  int i;
  (void)arg;
  tern_generate_options_init(&o, sizeof o);
  o.max_tokens = 2;
  o.sampler = s;
  o.grammar = g;
  for (i = 0; i < ROUNDS; i++) {
    const float *values = NULL;
    const char *utf8 = NULL;
    char text[256];
    size_t n = 0, done = 0;
    uint32_t length = 0;
    tern_token t = 0;
    tern_sampler *clone = NULL;
    tern_session *fork = NULL;
    tern_status status;
    status = tern_eval(c, tokens, 2, NULL, &done);
    /* full, if every clear met the other thread */
    CHECK(status == TERN_OK || status == TERN_ERR_BUSY || status == TERN_ERR_CONTEXT_FULL);
    FINE(tern_seq_length(c, 0, &length));
    status = tern_logits(c, 0, &values, &n);
    /* the other thread may have cleared the rows between the calls */
    CHECK(status == TERN_OK || status == TERN_ERR_BUSY || status == TERN_ERR_INVALID_STATE ||
          status == TERN_ERR_NOT_FOUND);
    status = tern_sampler_sample(s, c, 0, &t);
    CHECK(status == TERN_OK || status == TERN_ERR_BUSY || status == TERN_ERR_INVALID_STATE ||
          status == TERN_ERR_NOT_FOUND);
    FINE(tern_seq_clear(c, 0));
    FINE(tern_sampler_accept(s, 3));
    status = tern_sampler_clone(s, &clone);
    CHECK(status == TERN_OK || (status == TERN_ERR_BUSY && clone == NULL));
    tern_sampler_free(clone);
    FINE(tern_detok_push(d, tokens[0], &utf8, &n));
    FINE(tern_detok_finish(d, &utf8, &n));
    /* immutable: never busy */
    OK(tern_token_to_piece(m, tokens[0], 0, text, sizeof text, &n));
    if (i % 20 == 0) {
      status = tern_session_respond(chat, "Yes or no?", TERN_NUL_TERMINATED, &o, NULL, NULL, NULL);
      CHECK(status == TERN_OK || status == TERN_ERR_BUSY || status == TERN_ERR_CONTEXT_FULL);
      status = tern_session_fork(chat, &fork);
      CHECK(status == TERN_OK || status == TERN_ERR_BUSY);
      tern_session_free(fork);
      FINE(tern_session_transcript_to_json(chat, NULL, 0, &n));
      FINE(tern_session_set_messages(chat, NULL, 0, 0, NULL));
    }
  }
  return NULL;
}

/* Two threads that only look are never busy to each other. */
static void *looks(void *arg) {
  int i;
  (void)arg;
  for (i = 0; i < ROUNDS * 20; i++) {
    uint32_t length = 0;
    size_t n = 0;
    tern_sampler *clone = NULL;
    OK(tern_seq_length(c, 0, &length));
    OK(tern_seq_common_prefix(c, 0, tokens, n_tokens, &n));
    OK(tern_sampler_clone(s, &clone));
    tern_sampler_free(clone);
  }
  return NULL;
}

static int released;
static void on_release(void *user_data) { CHECK(user_data == &released); released++; }

/* Frees, from within a call, the sampler and the context that the call uses; both are busy, and go with it. */
static tern_sampler *own;
static tern_context *under;
static void frees(void *user_data, float *logits, size_t n) {
  tern_token t = -7;
  uint32_t length = 0;
  CHECK(user_data == &released && n > 0);
  IS(TERN_ERR_BUSY, tern_sampler_accept(own, 1));
  IS(TERN_ERR_BUSY, tern_sampler_sample_logits(own, logits, n, &t));
  IS(TERN_ERR_BUSY, tern_seq_length(under, 0, &length));
  tern_sampler_free(own);
  tern_context_free(under);
  CHECK(released == 0 && t == -7);
}

static void *frees_it(void *arg) {
  while (!__atomic_load_n(&started, __ATOMIC_ACQUIRE)) { }
  tern_session_free((tern_session *)arg);
  return NULL;
}
static int32_t starts(void *user_data, const tern_chunk *chunk) {
  (void)user_data; (void)chunk;
  __atomic_store_n(&started, 1, __ATOMIC_RELEASE);
  return 1;
}

/* Everything that goes deep, on a stack of 256 KB. */
static void *shallow(void *arg) {
  static const char schema[] =
      "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\"]}}},"
      "\"required\":[\"name\"]}";
  static char nested[20001];
  tern_model *model = NULL;
  tern_grammar *json = NULL;
  tern_session *session = NULL;
  tern_generate_options o;
  size_t n = 0;
  OK(tern_model_load_from_file((const char *)arg, NULL, &model, NULL));
  OK(tern_self_test(NULL));
  OK(tern_grammar_compile(model, TERN_GRAMMAR_JSON_SCHEMA, schema, TERN_NUL_TERMINATED, &json, NULL));
  OK(tern_session_new(model, NULL, &session, NULL));
  tern_generate_options_init(&o, sizeof o);
  o.max_tokens = 12;
  o.grammar = json;
  OK(tern_session_respond(session, "A name?", TERN_NUL_TERMINATED, &o, NULL, NULL, NULL));
  tern_grammar_free(json);
  /* hostile depth is refused, not run into the guard page */
  memset(nested, '(', sizeof nested - 1);
  IS(TERN_ERR_GRAMMAR, tern_grammar_compile(model, TERN_GRAMMAR_REGEX, nested, sizeof nested - 1, &json, NULL));
  memset(nested, '[', sizeof nested - 1);
  IS(TERN_ERR_GRAMMAR, tern_grammar_compile(model, TERN_GRAMMAR_JSON_SCHEMA, nested, sizeof nested - 1, &json, NULL));
  IS(TERN_ERR_INVALID_ARGUMENT, tern_session_transcript_from_json(session, nested, sizeof nested - 1, NULL));
  OK(tern_session_transcript_to_json(session, NULL, 0, &n));
  tern_session_free(session);
  tern_model_free(model);
  return NULL;
}

static void run(void *(*f)(void *), int count) {
  pthread_t threads[4];
  int i;
  for (i = 0; i < count; i++) CHECK(pthread_create(&threads[i], NULL, f, NULL) == 0);
  for (i = 0; i < count; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(int argc, char **argv) {
  pthread_t other;
  tern_generate_options o;
  tern_session_params sp;
  tern_context_params cp;
  tern_token t = -1;
  tern_session *fork = NULL;
  CHECK(argc == 3);
  OK(tern_model_load_from_file(argv[1], NULL, &m, NULL));
  OK(tern_tokenize(m, "Once upon a time", TERN_NUL_TERMINATED, TERN_TOK_ADD_SPECIAL, tokens, 64, &n_tokens));
  tern_context_params_init(&cp, sizeof cp);
  cp.n_ctx = 256;
  OK(tern_context_new(m, &cp, &c, NULL));
  OK(tern_sampler_new(1, &s));
  OK(tern_detok_new(m, 0, &d));
  OK(tern_grammar_compile(m, TERN_GRAMMAR_CHOICE, "[\"yes\",\"no\"]", TERN_NUL_TERMINATED, &g, NULL));
  tern_session_params_init(&sp, sizeof sp);
  sp.context = &cp;
  OK(tern_session_new(m, &sp, &chat, NULL));

  run(misuse, 2);
  OK(tern_seq_clear(c, 0));
  OK(tern_eval(c, tokens, n_tokens, NULL, NULL));
  run(looks, 2);

  OK(tern_sampler_new(1, &own));
  OK(tern_sampler_add_custom(own, frees, on_release, &released));
  OK(tern_context_new(m, NULL, &under, NULL));
  OK(tern_eval(under, tokens, n_tokens, NULL, NULL));
  OK(tern_sampler_sample(own, under, 0, &t));
  CHECK(t >= 0 && released == 1);

  /* a finaliser frees a session while another thread answers in it */
  OK(tern_session_set_messages(chat, NULL, 0, 0, NULL));
  OK(tern_session_fork(chat, &fork));
  tern_generate_options_init(&o, sizeof o);
  o.max_tokens = 40;
  CHECK(pthread_create(&other, NULL, frees_it, fork) == 0);
  OK(tern_session_respond(fork, "A story", TERN_NUL_TERMINATED, &o, starts, NULL, NULL));
  CHECK(pthread_join(other, NULL) == 0);

  {
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 256 << 10) == 0);
    CHECK(pthread_create(&other, &small, shallow, argv[1]) == 0 && pthread_join(other, NULL) == 0);
    CHECK(pthread_attr_destroy(&small) == 0);
  }

  /* any order of frees */
  tern_model_free(m);
  tern_grammar_free(g);
  tern_session_free(chat);
  tern_sampler_free(s);
  tern_detok_free(d);
  tern_context_free(c);
  CHECK(busy >= 0);
  return 0;
}
