/* Memory as a contract: the plan, the cap, the trim: memory MODEL FOLDER. */
#include "check.h"

static tern_model *m;
static tern_token said[400];

static tern_context *fresh(uint32_t n_ctx, uint32_t n_seq_max, int32_t kv_type, uint64_t cap) {
  tern_context *c = NULL;
  tern_context_params p;
  tern_context_params_init(&p, sizeof p);
  p.n_ctx = n_ctx;
  p.n_seq_max = n_seq_max;
  p.kv_type = kv_type;
  p.kv_bytes_max = cap;
  OK_E(tern_context_new(m, &p, &c, &error));
  return c;
}

static uint64_t peak(const tern_context *c) {
  tern_perf perf;
  tern_perf_init(&perf, sizeof perf);
  OK(tern_context_perf(c, &perf));
  return perf.peak_heap_bytes;
}

static int near(uint64_t planned, uint64_t used) {
  const uint64_t off = planned > used ? planned - used : used - planned;
  return off * 100 <= used * 3;
}

/* What a context holds when every sequence is full is what was planned, within 3 %. */
static void planned(const char *path) {
  static const struct { uint32_t n_ctx, n_seq_max, n_batch; int32_t kv_type; } cases[4] = {
    {0, 1, 0, TERN_KV_F16}, {100, 3, 16, TERN_KV_F16}, {256, 2, 0, TERN_KV_I8}, {65, 1, 1, TERN_KV_I8},
  };
  tern_memory_plan plan, same;
  tern_context_params p;
  tern_model_params mp;
  tern_model_info info;
  size_t i;
  tern_model_info_init(&info, sizeof info);
  OK(tern_model_get_info(m, &info));
  for (i = 0; i < 4; i++) {
    tern_context *c = NULL;
    tern_eval_options o;
    const float *values = NULL;
    size_t n = 0;
    const uint32_t full = cases[i].n_ctx ? cases[i].n_ctx : info.n_ctx_train;
    uint32_t s;
    tern_context_params_init(&p, sizeof p);
    p.n_ctx = cases[i].n_ctx;
    p.n_seq_max = cases[i].n_seq_max;
    p.n_batch = cases[i].n_batch;
    p.kv_type = cases[i].kv_type;
    tern_memory_plan_init(&plan, sizeof plan);
    OK_E(tern_memory_plan_for_file(path, NULL, &p, &plan, &error));
    CHECK(plan.weights_mapped + plan.weights_heap >= info.weight_bytes * 9 / 10);
    OK_E(tern_context_new(m, &p, &c, &error));
    tern_eval_options_init(&o, sizeof o);
    for (s = 0; s < cases[i].n_seq_max; s++) {
      uint32_t left = full;
      o.seq = (tern_seq)s;
      while (left > 0) {
        const uint32_t now = left < 400 ? left : 400;
        OK(tern_eval(c, said, now, &o, NULL));
        left -= now;
      }
      OK(tern_logits(c, 0, &values, &n));
    }
    /* the peak is noted at the end of an eval */
    OK(tern_seq_truncate(c, 0, full - 1));
    OK(tern_eval(c, said, 1, NULL, NULL));
    if (!near(plan.kv + plan.scratch, peak(c))) {
      fprintf(stderr, "case %d: planned %llu + %llu, used %llu\n", (int)i, (unsigned long long)plan.kv,
              (unsigned long long)plan.scratch, (unsigned long long)peak(c));
      exit(1);
    }
    tern_context_free(c);
  }
  /* without a map the weights are memory of the process's own */
  tern_model_params_init(&mp, sizeof mp);
  mp.flags = TERN_MODEL_NO_MMAP;
  tern_memory_plan_init(&same, sizeof same);
  OK_E(tern_memory_plan_for_file(path, &mp, &p, &same, &error));
  CHECK(same.weights_mapped == 0 && same.weights_heap == plan.weights_mapped + plan.weights_heap && same.kv == plan.kv);
  p.kv_bytes_max = plan.kv / 2;
  OK_E(tern_memory_plan_for_file(path, NULL, &p, &same, &error));
  CHECK(same.kv == plan.kv / 2);
}

/* The cap: CONTEXT_FULL beyond it, nothing is changed, and what is given back is there for another sequence. */
static void capped(void) {
  tern_context *c = fresh(300, 3, TERN_KV_F16, 0), *d;
  tern_eval_options o;
  uint32_t n = 0;
  uint64_t page, with_one, freed = 0;
  tern_eval_options_init(&o, sizeof o);
  OK(tern_eval(c, said, 64, NULL, NULL));
  with_one = peak(c);
  OK(tern_eval(c, said, 1, NULL, NULL));
  page = peak(c) - with_one;
  CHECK(page > 10000);
  tern_context_free(c);

  c = fresh(300, 3, TERN_KV_F16, 3 * page);
  d = fresh(300, 1, TERN_KV_F16, 0);
  OK(tern_eval(c, said, 128, NULL, NULL));
  o.seq = 1;
  IS(TERN_ERR_CONTEXT_FULL, tern_eval(c, said, 65, &o, NULL));
  OK(tern_seq_length(c, 1, &n));
  CHECK(n == 0);
  OK(tern_eval(c, said, 64, &o, NULL));
  IS(TERN_ERR_CONTEXT_FULL, tern_eval(c, said, 1, &o, NULL));
  OK(tern_seq_length(c, 1, &n));
  CHECK(n == 64);
  OK(tern_eval(d, said, 64, NULL, NULL));
  same_rows(c, 0, d, 0);
  /* a fork costs nothing, writing to its page does */
  OK(tern_seq_truncate(c, 1, 63));
  OK(tern_seq_fork(c, 1, 2));
  o.seq = 2;
  IS(TERN_ERR_CONTEXT_FULL, tern_eval(c, said, 1, &o, NULL));
  OK(tern_seq_truncate(c, 0, 64));
  OK(tern_eval(c, said + 63, 1, &o, NULL));
  same_rows(c, 0, d, 0);
  OK(tern_context_trim(c, TERN_TRIM_KV, &freed));
  CHECK(freed >= 3 * page);
  tern_context_free(c);
  tern_context_free(d);
}

/* Under pressure: what was trimmed is computed again, and nothing else is different. */
static void trimmed(void) {
  int level, i;
  for (level = TERN_TRIM_SCRATCH; level <= TERN_TRIM_KV; level++) {
    tern_context *c = fresh(400, 1, TERN_KV_F16, 0), *d = fresh(400, 1, TERN_KV_F16, 0);
    const float *values = NULL;
    size_t n = 0;
    for (i = 0; i < 4; i++) {
      uint64_t freed = 0, nothing = 1;
      OK(tern_eval(c, said + 50 * i, 50, NULL, NULL));
      OK(tern_context_trim(c, level, &freed));
      CHECK(freed > 10000);
      OK(tern_context_trim(c, level, &nothing));
      CHECK(nothing == 0);
      IS(TERN_ERR_INVALID_STATE, tern_logits(c, 0, &values, &n)); /* rows went with it */
      OK(tern_eval(d, said + 50 * i, 50, NULL, NULL));
    }
    OK(tern_eval(c, said, 1, NULL, NULL));
    OK(tern_eval(d, said, 1, NULL, NULL));
    same_rows(c, 0, d, 0);
    tern_context_free(c);
    tern_context_free(d);
  }
  /* a session in the middle of an answer goes on */
  {
    static struct said whole, cut;
    tern_session *s = NULL;
    tern_context *c = NULL;
    tern_generate_options o;
    tern_chunk chunk;
    tern_status status;
    tern_generate_options_init(&o, sizeof o);
    o.max_tokens = 30;
    OK_E(tern_session_new(m, NULL, &s, &error));
    ask(s, "Tell me a story.", &o, &whole);
    tern_session_free(s);
    OK_E(tern_session_new(m, NULL, &s, &error));
    OK(tern_session_context(s, &c));
    OK_E(tern_session_start(s, "Tell me a story.", TERN_NUL_TERMINATED, &o, &error));
    tern_chunk_init(&chunk, sizeof chunk);
    memset(&cut, 0, sizeof cut);
    do {
      status = tern_session_next(s, 0, &chunk);
      CHECK(status == TERN_OK || status == TERN_DONE);
      hear(&cut, &chunk);
      OK(tern_context_trim(c, cut.chunks % 3 == 0 ? TERN_TRIM_KV : TERN_TRIM_SCRATCH, NULL));
    } while (status != TERN_DONE);
    CHECK(strcmp(whole.text, cut.text) == 0 && whole.finish == cut.finish);
    tern_session_free(s);
  }
}

int main(int argc, char **argv) {
  int i;
  CHECK(argc == 3);
  for (i = 0; i < 400; i++) said[i] = (i * i * 13 + i) % 2000;
  OK_E(tern_model_load_from_file(argv[1], NULL, &m, &error));
  planned(argv[1]);
  capped();
  trimmed();
  tern_model_free(m);
  return 0;
}
