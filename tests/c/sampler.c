/* Every step of a chain on rows whose outcome is known, and chains as wholes: sampler MODEL FOLDER. */
#include "check.h"
#include <math.h>

#define N 8
#define DRAWS 400

static tern_model *m;

/* How often each token of a row is drawn. */
static void draw(tern_sampler *s, const float *row, int counts[N]) {
  int i;
  memset(counts, 0, N * sizeof *counts);
  for (i = 0; i < DRAWS; i++) {
    tern_token t = -1;
    OK(tern_sampler_sample_logits(s, row, N, &t));
    CHECK(t >= 0 && t < N);
    counts[t]++;
  }
}

static tern_sampler *chain(uint64_t seed) {
  tern_sampler *s = NULL;
  OK(tern_sampler_new(seed, &s));
  return s;
}

static int possible(const int counts[N]) {
  int i, k = 0;
  for (i = 0; i < N; i++) k += counts[i] > 0;
  return k;
}

/* Probabilities 0.4, 0.3, 0.15, 0.1, 0.05 of tokens 5, 2, 7, 0, 3; the others have none. */
static float row[N];

static void truncation(void) {
  int counts[N];
  tern_sampler *s;
  s = chain(1); /* empty: greedy */
  draw(s, row, counts);
  CHECK(counts[5] == DRAWS);
  tern_sampler_free(s);

  s = chain(1);
  OK(tern_sampler_add_temp(s, 1));
  draw(s, row, counts);
  /* four standard deviations of a binomial of 400 are at most 40 */
  CHECK(possible(counts) == 5 && abs(counts[5] - 160) < 40 && abs(counts[2] - 120) < 40 && abs(counts[3] - 20) < 20);
  tern_sampler_free(s);

  s = chain(2);
  OK(tern_sampler_add_temp(s, 1));
  OK(tern_sampler_add_top_k(s, 2));
  draw(s, row, counts);
  CHECK(counts[5] + counts[2] == DRAWS && counts[2] > 100);
  tern_sampler_free(s);

  s = chain(3);
  OK(tern_sampler_add_top_p(s, 0.8f, 1));
  OK(tern_sampler_add_temp(s, 1));
  draw(s, row, counts); /* 0.4 + 0.3 + 0.15 reach 0.8 */
  CHECK(counts[5] + counts[2] + counts[7] == DRAWS && counts[7] > 10);
  tern_sampler_free(s);

  s = chain(3);
  OK(tern_sampler_add_top_p(s, 0.1f, 4)); /* at least four */
  OK(tern_sampler_add_temp(s, 1));
  draw(s, row, counts);
  CHECK(possible(counts) == 4 && counts[3] == 0);
  tern_sampler_free(s);

  s = chain(4);
  OK(tern_sampler_add_min_p(s, 0.3f, 1));
  OK(tern_sampler_add_temp(s, 1));
  draw(s, row, counts); /* from 0.12 on */
  CHECK(possible(counts) == 3 && counts[0] == 0);
  tern_sampler_free(s);

  s = chain(5);
  OK(tern_sampler_add_top_n_sigma(s, 0.2f));
  OK(tern_sampler_add_temp(s, 1));
  draw(s, row, counts);
  CHECK(possible(counts) < 5 && counts[5] > 0);
  tern_sampler_free(s);

  s = chain(6);
  OK(tern_sampler_add_typical(s, 0.25f, 1));
  OK(tern_sampler_add_temp(s, 1));
  draw(s, row, counts); /* the entropy is 1.39 nats, and -ln 0.3 the nearest to it */
  CHECK(counts[2] == DRAWS);
  tern_sampler_free(s);

  s = chain(7);
  OK(tern_sampler_add_xtc(s, 1, 0.12f, 1)); /* always: of 0.4, 0.3 and 0.15 the least stays */
  OK(tern_sampler_add_temp(s, 1));
  draw(s, row, counts);
  CHECK(counts[5] == 0 && counts[2] == 0 && counts[7] > 0 && possible(counts) == 3);
  tern_sampler_free(s);

  s = chain(8);
  OK(tern_sampler_add_temp(s, 0)); /* the best */
  draw(s, row, counts);
  CHECK(counts[5] == DRAWS);
  tern_sampler_free(s);

  s = chain(9);
  OK(tern_sampler_add_temp_dynamic(s, 0.02f, 0, 1)); /* cold, whatever the entropy is */
  draw(s, row, counts);
  CHECK(counts[5] == DRAWS);
  tern_sampler_free(s);

  s = chain(10);
  OK(tern_sampler_add_temp(s, 1));
  OK(tern_sampler_add_mirostat_v2(s, 0.1f, 0.1f)); /* wants next to no surprise, and learns to get it */
  draw(s, row, counts);
  draw(s, row, counts);
  CHECK(counts[5] > DRAWS * 9 / 10);
  tern_sampler_free(s);
}

static void edits(void) {
  const tern_logit_bias bias[3] = {{5, -INFINITY}, {2, -INFINITY}, {6, 1}};
  tern_sampler *s = chain(1);
  tern_token t;
  int i, counts[N];
  OK(tern_sampler_add_logit_bias(s, bias, sizeof bias[0], 2));
  OK(tern_sampler_sample_logits(s, row, N, &t));
  CHECK(t == 7);
  OK(tern_sampler_add_logit_bias(s, bias + 2, sizeof bias[0], 1)); /* nothing more of minus infinity comes back */
  draw(s, row, counts);
  CHECK(counts[7] == DRAWS);
  tern_sampler_free(s);

  /* each use makes a token less likely: all of them are used */
  s = chain(1);
  OK(tern_sampler_add_penalties(s, -1, 1, 0.5f, 0));
  draw(s, row, counts);
  CHECK(possible(counts) == 5);
  OK(tern_sampler_reset(s));
  OK(tern_sampler_sample_logits(s, row, N, &t));
  CHECK(t == 5);
  tern_sampler_free(s);

  /* 1 2 3 1 2: 3 would go on with the repetition, and is not taken though it is the best */
  {
    static const tern_token said[5] = {1, 2, 3, 1, 2};
    float flat[N] = {0, 0, 0, 1, 0.5f, 0, 0, 0};
    s = chain(1);
    OK(tern_sampler_add_dry(s, 2, 1.75f, 1, -1));
    OK(tern_sampler_sample_logits(s, flat, N, &t));
    CHECK(t == 3);
    OK(tern_sampler_reset(s));
    for (i = 0; i < 5; i++) OK(tern_sampler_accept(s, said[i]));
    OK(tern_sampler_sample_logits(s, flat, N, &t));
    CHECK(t == 4);
    tern_sampler_free(s);
  }

  /* a row without a number */
  {
    float none[N];
    for (i = 0; i < N; i++) none[i] = i % 2 ? -INFINITY : NAN;
    s = chain(1);
    t = -5;
    IS(TERN_ERR_BAD_MODEL, tern_sampler_sample_logits(s, none, N, &t));
    none[3] = -1e30f;
    OK(tern_sampler_sample_logits(s, none, N, &t));
    CHECK(t == 3);
    tern_sampler_free(s);
  }
}

static tern_sampler *everything(uint64_t seed) {
  tern_sampler *s = chain(seed);
  OK(tern_sampler_add_penalties(s, 64, 1.05f, 0.01f, 0.01f));
  OK(tern_sampler_add_dry(s, 0.5f, 1.5f, 2, -1));
  OK(tern_sampler_add_top_k(s, 60));
  OK(tern_sampler_add_typical(s, 0.99f, 2));
  OK(tern_sampler_add_top_p(s, 0.98f, 2));
  OK(tern_sampler_add_min_p(s, 0.005f, 2));
  OK(tern_sampler_add_temp(s, 1.2f));
  return s;
}

/* Same seed, same tokens; clones go on as the other would; reset begins anew; the context's rows and the host's are alike. */
static void chains(void) {
  tern_context *c = NULL;
  tern_sampler *a = everything(7), *b = everything(7), *other = everything(8), *clone = NULL;
  tern_token first[24], t = 5, u;
  int i, differ = 0;
  OK_E(tern_context_new(m, NULL, &c, &error));
  for (i = 0; i < 24; i++) {
    const float *values = NULL;
    size_t n = 0;
    OK(tern_eval(c, &t, 1, NULL, NULL));
    OK(tern_logits(c, 0, &values, &n));
    OK(tern_sampler_sample_logits(b, values, n, &u));
    if (clone) {
      tern_token v = -1;
      OK(tern_sampler_sample_logits(clone, values, n, &v));
      CHECK(u == v);
    }
    OK(tern_sampler_sample(a, c, 0, &t));
    CHECK(t == u);
    first[i] = t;
    OK(tern_sampler_sample_logits(other, values, n, &u));
    differ += t != u;
    OK(tern_logits(c, 0, &values, &n));
    if (i == 11) OK(tern_sampler_clone(b, &clone));
  }
  CHECK(differ > 0);
  OK(tern_sampler_reset(a));
  OK(tern_seq_clear(c, 0));
  t = 5;
  for (i = 0; i < 24; i++) {
    OK(tern_eval(c, &t, 1, NULL, NULL));
    OK(tern_sampler_sample(a, c, 0, &t));
    CHECK(t == first[i]);
  }
  tern_context_free(c);
  tern_sampler_free(a);
  tern_sampler_free(b);
  tern_sampler_free(other);
  tern_sampler_free(clone);
}

static int rows, releases;
static void only_three(void *user_data, float *logits, size_t n) {
  size_t i;
  CHECK(user_data == &rows && n == N);
  for (i = 0; i < n; i++)
    if (i != 3) logits[i] = -INFINITY;
  rows++;
}
static void on_release(void *user_data) { CHECK(user_data == &rows); releases++; }

static void custom(void) {
  tern_sampler *s = chain(1), *clone = NULL;
  float before[N];
  tern_token t = -1;
  memcpy(before, row, sizeof row);
  OK(tern_sampler_add_custom(s, only_three, on_release, &rows));
  OK(tern_sampler_clone(s, &clone));
  OK(tern_sampler_sample_logits(s, row, N, &t));
  CHECK(t == 3 && rows == 1 && memcmp(before, row, sizeof row) == 0); /* the host's row stays */
  tern_sampler_free(s);
  CHECK(releases == 0);
  OK(tern_sampler_sample_logits(clone, row, N, &t));
  CHECK(t == 3 && rows == 2);
  tern_sampler_free(clone);
  CHECK(releases == 1);
}

int main(int argc, char **argv) {
  int i;
  CHECK(argc == 3);
  for (i = 0; i < N; i++) row[i] = -INFINITY;
  row[5] = logf(0.4f);
  row[2] = logf(0.3f);
  row[7] = logf(0.15f);
  row[0] = logf(0.1f);
  row[3] = logf(0.05f);
  OK_E(tern_model_load_from_file(argv[1], NULL, &m, &error));
  truncation();
  edits();
  chains();
  custom();
  tern_model_free(m);
  return 0;
}
