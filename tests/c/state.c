/* Sequences: batches, forks, cuts, shifts, saved bytes and prompt files, each against a plain eval: state MODEL FOLDER. */
#include "check.h"
#include <math.h>

static tern_model *m;
static tern_token said[200];
static size_t n_said;

static tern_context *fresh(uint32_t n_seq_max, int32_t kv_type) {
  tern_context *c = NULL;
  tern_context_params p;
  tern_context_params_init(&p, sizeof p);
  p.n_seq_max = n_seq_max;
  p.kv_type = kv_type;
  OK_E(tern_context_new(m, &p, &c, &error));
  return c;
}

static void eval(tern_context *c, tern_seq s, const tern_token *tokens, size_t n) {
  tern_eval_options o;
  tern_eval_options_init(&o, sizeof o);
  o.seq = s;
  OK(tern_eval(c, tokens, n, &o, NULL));
}

static uint32_t length(const tern_context *c, tern_seq s) {
  uint32_t n = 0;
  OK(tern_seq_length(c, s, &n));
  return n;
}

/* The row of a sequence is what a context has that only ever saw these tokens. */
static void is(tern_context *c, const tern_token *tokens, size_t n, int32_t kv_type) {
  tern_context *plain = fresh(1, kv_type);
  eval(plain, 0, tokens, n);
  same_rows(c, 0, plain, 0);
  tern_context_free(plain);
}

static void forks(int32_t kv_type) {
  tern_context *c = fresh(4, kv_type);
  tern_token joined[160];
  size_t k = 0;
  eval(c, 0, said, 90);
  OK(tern_seq_fork(c, 0, 1));
  OK(tern_seq_fork(c, 1, 2));
  IS(TERN_ERR_INVALID_STATE, tern_seq_fork(c, 0, 2));
  CHECK(length(c, 1) == 90 && length(c, 2) == 90);
  /* each goes its own way, and the others do not notice */
  memcpy(joined, said, 90 * sizeof *said);
  memcpy(joined + 90, said + 3, 40 * sizeof *said);
  eval(c, 1, said + 3, 40);
  is(c, joined, 130, kv_type);
  OK(tern_seq_truncate(c, 2, 50));
  eval(c, 2, said + 100, 5);
  memcpy(joined + 50, said + 100, 5 * sizeof *said);
  is(c, joined, 55, kv_type);
  eval(c, 0, said + 90, 10);
  is(c, said, 100, kv_type);
  OK(tern_seq_common_prefix(c, 2, said, 200, &k));
  CHECK(k >= 50 && k < 56);
  OK(tern_seq_truncate(c, 1, 1000)); /* more than there is: nothing happens */
  CHECK(length(c, 1) == 130);
  OK(tern_seq_clear(c, 1));
  CHECK(length(c, 1) == 0 && length(c, 0) == 100);
  /* two new sequences and an old one in one pass, interleaved */
  {
    tern_batch_item items[150];
    tern_eval_options o;
    size_t i, n = 0, done = 0;
    OK(tern_seq_clear(c, 2));
    for (i = 0; i < 40; i++) {
      const tern_batch_item one = {said[i], 1, i == 39}, two = {said[i + 7], 2, i == 39}, old = {said[100 + i], 0, i == 39};
      items[n++] = one;
      items[n++] = two;
      items[n++] = old;
    }
    tern_eval_options_init(&o, sizeof o);
    OK(tern_eval_batch(c, items, sizeof items[0], n, &o, &done));
    CHECK(done == n);
    for (i = 0; i < 3; i++) {
      tern_context *plain = fresh(1, kv_type);
      eval(plain, 0, i == 1 ? said + 7 : said, i == 2 ? 140 : 40);
      same_rows(c, i, plain, 0);
      tern_context_free(plain);
    }
  }
  tern_context_free(c);
}

static void saved(int32_t kv_type, const char *folder) {
  tern_context *c = fresh(2, kv_type), *d = fresh(2, kv_type), *e = fresh(3, kv_type);
  char path[1024];
  unsigned char *blob, *again;
  size_t len = 0, more = 0, at;
  int i;
  eval(c, 0, said, 100);
  OK(tern_seq_state_save(c, 0, NULL, 0, &len));
  blob = (unsigned char *)malloc(len + 1);
  again = (unsigned char *)malloc(len);
  CHECK(blob && again);
  OK(tern_seq_state_save(c, 0, blob + 1, len, &len)); /* no alignment is asked for */
  OK(tern_seq_state_load(d, 1, blob + 1, len));
  same_rows(d, 0, c, 0); /* the last row is computed again */
  OK(tern_seq_state_save(d, 1, again, len, &more));
  CHECK(more == len && memcmp(again, blob + 1, len) == 0);
  eval(d, 1, said + 100, 30);
  is(d, said, 130, kv_type);
  /* one changed byte anywhere is noticed, and changes nothing */
  for (at = 1; at <= len; at += 1 + len / 97) {
    blob[at] ^= 0x10;
    IS(TERN_ERR_STATE_MISMATCH, tern_seq_state_load(d, 1, blob + 1, len));
    blob[at] ^= 0x10;
  }
  for (at = 0; at < len; at += 1 + len / 31) IS(TERN_ERR_STATE_MISMATCH, tern_seq_state_load(d, 1, blob + 1, at));
  CHECK(length(d, 1) == 130);
  tern_context_free(d);
  d = fresh(1, kv_type == TERN_KV_F16 ? TERN_KV_I8 : TERN_KV_F16);
  IS(TERN_ERR_STATE_MISMATCH, tern_seq_state_load(d, 0, blob + 1, len)); /* another kind of cache */
  tern_context_free(d);
  free(blob);
  free(again);

  snprintf(path, sizeof path, "%s/state.prompt", folder);
  OK_E(tern_seq_prefix_save(c, 0, path, &error));
  for (i = 0; i < 3; i++) OK_E(tern_seq_prefix_map(e, i, path, &error));
  IS(TERN_ERR_INVALID_STATE, tern_seq_prefix_map(e, 0, path, NULL));
  for (i = 0; i < 3; i++) {
    tern_token joined[110];
    memcpy(joined, said, 100 * sizeof *said);
    memcpy(joined + 100, said + 20 * i, 10 * sizeof *said);
    eval(e, i, said + 20 * i, 10);
    is(e, joined, 110, kv_type);
  }
  CHECK(remove(path) == 0);
  tern_context_free(c);
  tern_context_free(e);
}

static void shifted(void) {
  tern_context *c = fresh(1, TERN_KV_F16);
  size_t k = 0;
  const float *values = NULL;
  size_t n = 0, i;
  eval(c, 0, said, 120);
  IS(TERN_ERR_INVALID_ARGUMENT, tern_seq_shift(c, 0, 100, 21));
  OK(tern_seq_shift(c, 0, 10, 60));
  CHECK(length(c, 0) == 60);
  OK(tern_seq_common_prefix(c, 0, said, 10, &k));
  CHECK(k == 10);
  eval(c, 0, said, 1);
  OK(tern_logits(c, 0, &values, &n));
  for (i = 0; i < n; i++) CHECK(isfinite(values[i]));
  tern_context_free(c);
}

int main(int argc, char **argv) {
  int i;
  CHECK(argc == 3);
  OK_E(tern_model_load_from_file(argv[1], NULL, &m, &error));
  for (n_said = 0; n_said < 200; n_said++) said[n_said] = (tern_token)(n_said * n_said * 7 + 3 * n_said) % 2000;
  for (i = TERN_KV_F16; i <= TERN_KV_I8; i++) {
    forks(i);
    saved(i, argv[2]);
  }
  shifted();
  tern_model_free(m);
  return 0;
}
