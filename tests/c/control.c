/* Who is in charge: cancel from other threads, budgets, the host's jobs and threads, BUSY: control MODEL FOLDER. */
#include "check.h"
#include <pthread.h>
#include <time.h>

static tern_model *m;
static tern_token said[300];
#define N_SAID 300

static tern_context *fresh(const tern_threadpool *pool, uint32_t n_batch) {
  tern_context *c = NULL;
  tern_context_params p;
  tern_context_params_init(&p, sizeof p);
  p.threadpool = pool;
  p.n_batch = n_batch;
  OK_E(tern_context_new(m, &p, &c, &error));
  return c;
}

static uint32_t length(const tern_context *c) {
  uint32_t n = 0;
  OK(tern_seq_length(c, 0, &n));
  return n;
}

/* The host's job system: two threads of its own, one after the other, or all on the caller's thread; a call may raise a token. */
struct host { int threads, calls, raise_at; tern_cancel *cancel; tern_context *context; };
struct share { tern_job_fn job; void *arg; uint32_t first, n, step; };
static void *share(void *arg) {
  struct share *s = (struct share *)arg;
  uint32_t i;
  for (i = s->first; i < s->n; i += s->step) s->job(s->arg, i);
  return NULL;
}
static void parallel_for(void *user_data, uint32_t n, tern_job_fn job, void *arg) {
  struct host *h = (struct host *)user_data;
  uint32_t length_now = 7;
  h->calls++;
  if (h->calls == h->raise_at) tern_cancel_set(h->cancel);
  /* a callback of a handle meets it busy */
  if (h->context) {
    IS(TERN_ERR_BUSY, tern_seq_length(h->context, 0, &length_now));
    IS(TERN_ERR_BUSY, tern_seq_clear(h->context, 0));
    CHECK(length_now == 7);
  }
  if (h->threads) {
    struct share parts[2];
    pthread_t other;
    const struct share odd = {job, arg, 1, n, 2}, even = {job, arg, 0, n, 2};
    parts[0] = odd;
    parts[1] = even;
    CHECK(pthread_create(&other, NULL, share, &parts[0]) == 0);
    share(&parts[1]);
    CHECK(pthread_join(other, NULL) == 0);
  } else {
    while (n-- > 0) job(arg, n);
  }
}

static tern_threadpool *host_pool(struct host *h) {
  tern_threadpool *pool = NULL;
  tern_threadpool_params p;
  tern_threadpool_params_init(&p, sizeof p);
  p.n_threads = 4;
  p.parallel_for = parallel_for;
  p.parallel_for_user_data = h;
  OK(tern_threadpool_new(&p, &pool));
  return pool;
}

static void host_jobs(void) {
  struct host h;
  tern_threadpool *pool;
  tern_context *plain = fresh(NULL, 0), *c;
  OK(tern_eval(plain, said, 100, NULL, NULL));
  for (memset(&h, 0, sizeof h); h.threads < 2; h.threads++) {
    pool = host_pool(&h);
    c = fresh(pool, 0);
    tern_threadpool_free(pool);
    h.context = c;
    h.calls = 0;
    OK(tern_eval(c, said, 100, NULL, NULL));
    h.context = NULL;
    CHECK(h.calls > 10);
    same_rows(c, 0, plain, 0);
    tern_context_free(c);
  }
  tern_context_free(plain);
}

/* A token that is raised in one stage of one layer, for one stage after the other: whole tokens, and as if nothing had been. */
static void cancel_at_every_stage(void) {
  struct host h;
  tern_context *plain = fresh(NULL, 0);
  tern_threadpool *pool;
  tern_eval_options o;
  int total;
  OK(tern_eval(plain, said, 20, NULL, NULL));
  memset(&h, 0, sizeof h);
  OK(tern_cancel_new(&h.cancel));
  pool = host_pool(&h);
  tern_eval_options_init(&o, sizeof o);
  o.cancel = h.cancel;
  {
    tern_context *c = fresh(pool, 8);
    size_t done = 0;
    OK(tern_eval(c, said, 20, &o, &done));
    total = h.calls;
    CHECK(done == 20 && total > 3 * 4 * 4); /* passes, layers, stages */
    tern_context_free(c);
  }
  for (h.raise_at = 1; h.raise_at < total; h.raise_at += 3) {
    tern_context *c = fresh(pool, 8);
    size_t done = 99, more = 0;
    tern_status status;
    h.calls = 0;
    tern_cancel_reset(h.cancel);
    status = tern_eval(c, said, 20, &o, &done);
    CHECK((status == TERN_ERR_CANCELLED && done % 8 == 0 && done < 20) || (status == TERN_OK && done == 20));
    CHECK(length(c) == done);
    h.calls = total; /* it is not raised again */
    tern_cancel_reset(h.cancel);
    if (done < 20) OK(tern_eval(c, said + done, 20 - done, &o, &more));
    CHECK(done + more == 20);
    same_rows(c, 0, plain, 0);
    tern_context_free(c);
  }
  tern_threadpool_free(pool);
  tern_cancel_free(h.cancel);
  tern_context_free(plain);
}

/* Another thread raises the token at any time. */
static void *raises(void *arg) {
  const struct timespec soon = {0, 2000000};
  nanosleep(&soon, NULL);
  tern_cancel_set((tern_cancel *)arg);
  return NULL;
}

static void cancel_from_another_thread(void) {
  tern_cancel *cancel = NULL;
  tern_eval_options o;
  int i;
  OK(tern_cancel_new(&cancel));
  tern_eval_options_init(&o, sizeof o);
  o.cancel = cancel;
  for (i = 0; i < 10; i++) {
    tern_context *c = fresh(NULL, 8);
    pthread_t other;
    size_t done = 0;
    tern_status status;
    tern_cancel_reset(cancel);
    CHECK(pthread_create(&other, NULL, raises, cancel) == 0);
    status = tern_eval(c, said, N_SAID, &o, &done);
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(status == TERN_OK ? done == N_SAID : status == TERN_ERR_CANCELLED && done % 8 == 0 && done < N_SAID);
    CHECK(length(c) == done);
    tern_context_free(c);
  }
  tern_cancel_free(cancel);
}

/* One microsecond at a time: what a game does, only slower; any budget gives the same bits. */
static void budgets(void) {
  static const uint64_t each[3] = {1, 200, 50000};
  tern_context *plain = fresh(NULL, 0);
  int i;
  OK(tern_eval(plain, said, 60, NULL, NULL));
  for (i = 0; i < 3; i++) {
    tern_context *c = fresh(NULL, 0);
    tern_eval_options o;
    size_t at = 0;
    int calls = 0, pending = 0;
    tern_eval_options_init(&o, sizeof o);
    o.budget_us = each[i];
    while (at < 60) {
      size_t done = 99;
      const tern_status status = tern_eval(c, said + at, 60 - at, &o, &done);
      CHECK(status == TERN_OK || status == TERN_PENDING);
      CHECK((status == TERN_OK) == (done == 60 - at));
      pending += status == TERN_PENDING;
      at += done;
      CHECK(length(c) == at && ++calls < 10000);
    }
    /* every layer of every slice of at most 8 tokens is a place to stop */
    if (i == 0) CHECK(pending >= 8 * 4 - 1);
    same_rows(c, 0, plain, 0);
    tern_context_free(c);
  }
  /* another call drops a half-done token, correctly */
  {
    tern_context *c = fresh(NULL, 0);
    tern_eval_options o;
    size_t done = 99;
    tern_eval_options_init(&o, sizeof o);
    o.budget_us = 1;
    OK(tern_eval(c, said, 30, NULL, NULL));
    IS(TERN_PENDING, tern_eval(c, said + 30, 1, &o, &done));
    CHECK(done == 0);
    OK(tern_eval(c, said + 30, 30, NULL, NULL));
    same_rows(c, 0, plain, 0);
    tern_context_free(c);
  }
  tern_context_free(plain);
}

/* Pools of tern's own: numbers, pins and hints change nothing in the bits. */
static void pools(void) {
  static const uint32_t cpus[2] = {0, 0};
  tern_context *plain = fresh(NULL, 0);
  tern_threadpool_params p;
  uint32_t n;
  OK(tern_eval(plain, said, 50, NULL, NULL));
  for (n = 1; n <= 4; n++) {
    tern_threadpool *pool = NULL;
    tern_context *c, *d;
    tern_threadpool_params_init(&p, sizeof p);
    p.n_threads = n;
    p.qos = (int32_t)n - 1;
    p.spin_us = n == 2 ? -1 : (int32_t)n;
    p.cpus = n == 3 ? cpus : NULL;
    p.n_cpus = n == 3 ? 2 : 0;
    OK(tern_threadpool_new(&p, &pool));
    c = fresh(pool, 0);
    d = fresh(pool, 0);
    tern_threadpool_free(pool); /* the contexts hold it */
    OK(tern_eval(c, said, 50, NULL, NULL));
    OK(tern_eval(d, said, 50, NULL, NULL));
    same_rows(c, 0, plain, 0);
    same_rows(d, 0, plain, 0);
    tern_context_free(c);
    tern_context_free(d);
  }
  tern_context_free(plain);
}

/* A context in one thread's hands is busy to the others. */
static volatile int in_call;
static tern_context *contested;
static int32_t answers(void *user_data, const tern_chunk *chunk) {
  tern_session *s = (tern_session *)user_data;
  size_t n = 0;
  (void)chunk;
  /* no re-entry from a callback of the same handle */
  IS(TERN_ERR_BUSY, tern_session_stop(s));
  IS(TERN_ERR_BUSY, tern_session_transcript_to_json(s, NULL, 0, &n));
  IS(TERN_ERR_BUSY, tern_session_start(s, "x", 1, NULL, NULL));
  in_call++;
  return in_call < 5;
}

static void reentry(void) {
  tern_session *s = NULL;
  uint32_t n = 0;
  OK_E(tern_session_new(m, NULL, &s, &error));
  OK(tern_session_context(s, &contested));
  IS(TERN_ERR_CANCELLED, tern_session_respond(s, "Tell me a story.", TERN_NUL_TERMINATED, NULL, answers, s, NULL));
  CHECK(in_call == 5);
  OK(tern_session_stop(s));
  OK(tern_seq_length(contested, 0, &n));
  CHECK(n > 5);
  tern_session_free(s);
}

int main(int argc, char **argv) {
  int i;
  CHECK(argc == 3);
  for (i = 0; i < N_SAID; i++) said[i] = (i * i * 11 + 5 * i) % 2000;
  OK_E(tern_model_load_from_file(argv[1], NULL, &m, &error));
  host_jobs();
  cancel_at_every_stage();
  cancel_from_another_thread();
  budgets();
  pools();
  reentry();
  tern_model_free(m);
  return 0;
}
