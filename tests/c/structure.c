/* What the text may be: grammars of every kind, choose and score: structure MODEL FOLDER. */
#include "check.h"
#include <math.h>

static tern_model *m;
static tern_sampler *greedy;
static size_t n;

static tern_grammar *compile(int32_t kind, const char *src) {
  tern_grammar *g = NULL;
  OK_E(tern_grammar_compile(m, kind, src, src ? TERN_NUL_TERMINATED : 0, &g, &error));
  return g;
}

/* The answer under a grammar; finishes by itself unless `max_tokens` is short. */
static void under(tern_grammar *g, uint32_t max_tokens, struct said *said) {
  tern_session *s = NULL;
  tern_generate_options o;
  OK_E(tern_session_new(m, NULL, &s, &error));
  tern_generate_options_init(&o, sizeof o);
  o.max_tokens = max_tokens;
  o.grammar = g;
  o.sampler = greedy;
  ask(s, "Tell me something.", &o, said);
  tern_session_free(s);
}

static void kinds(void) {
  static const char schema[] =
      "{\"type\":\"object\",\"properties\":{\"kind\":{\"enum\":[\"cat\",\"dog\"]},\"legs\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9}},"
      "\"required\":[\"kind\",\"legs\"],\"additionalProperties\":false}";
  static struct said said;
  tern_grammar *g;
  char kind[8];
  int legs = 0, end = 0;
  g = compile(TERN_GRAMMAR_JSON_SCHEMA, schema);
  under(g, 0, &said);
  CHECK(said.finish == TERN_FINISH_EOG);
  CHECK(sscanf(said.text, " { \"kind\" : \"%7[a-z]\" , \"legs\" : %d }%n", kind, &legs, &end) == 2 && (size_t)end == said.len);
  CHECK((strcmp(kind, "cat") == 0 || strcmp(kind, "dog") == 0) && legs >= 1 && legs <= 9);
  /* too few tokens: LENGTH, and what is there begins a text of the grammar */
  under(g, 4, &said);
  CHECK(said.finish == TERN_FINISH_LENGTH && said.text[0] == '{' && said.text[said.len - 1] != '}');
  tern_grammar_free(g);

  g = compile(TERN_GRAMMAR_REGEX, "[0-9]{3}-[0-9]{4}");
  under(g, 0, &said);
  CHECK(said.len == 8 && said.text[3] == '-' && strspn(said.text, "0123456789-") == 8 && said.finish == TERN_FINISH_EOG);
  tern_grammar_free(g);

  g = compile(TERN_GRAMMAR_GBNF, "root ::= pair (\", \" pair){2}\npair ::= (\"yes\" | \"no\") \"!\"\n");
  under(g, 0, &said);
  CHECK(strspn(said.text, "yesno!, ") == said.len && said.len >= 13 && said.text[said.len - 1] == '!');
  tern_grammar_free(g);

  g = compile(TERN_GRAMMAR_LARK, "start: WORD (\" \" WORD){2}\nWORD: /[a-c]+/\n");
  under(g, 30, &said);
  CHECK(strspn(said.text, "abc ") == said.len && said.len > 0);
  tern_grammar_free(g);

  g = compile(TERN_GRAMMAR_CHOICE, "[\"left\", \"right\", \"straight on\"]");
  CHECK(tern_grammar_retain(g) == g);
  tern_grammar_free(g);
  under(g, 0, &said);
  CHECK(strcmp(said.text, "left") == 0 || strcmp(said.text, "right") == 0 || strcmp(said.text, "straight on") == 0);
  tern_grammar_free(g);

  g = compile(TERN_GRAMMAR_JSON, NULL);
  under(g, 30, &said);
  CHECK(said.len > 0 && strchr("{[\"-0123456789tfn \n", said.text[0]));
  tern_grammar_free(g);
}

static void refusals(void) {
  static const struct { int32_t kind; const char *src, *place; } bad[7] = {
    {TERN_GRAMMAR_JSON_SCHEMA, "{\n\"type\": }", "line 2"},
    {TERN_GRAMMAR_JSON_SCHEMA, "{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", ""},
    {TERN_GRAMMAR_JSON_SCHEMA, "false", ""},
    {TERN_GRAMMAR_REGEX, "a(", ""},
    {TERN_GRAMMAR_GBNF, "root ::= other\n", ""},
    {TERN_GRAMMAR_CHOICE, "[]", ""},
    {TERN_GRAMMAR_LARK, "start: nothing\n", ""},
  };
  size_t i;
  for (i = 0; i < 7; i++) {
    tern_grammar *g = NULL;
    tern_error *error = NULL;
    IS(TERN_ERR_GRAMMAR, tern_grammar_compile(m, bad[i].kind, bad[i].src, TERN_NUL_TERMINATED, &g, &error));
    CHECK(g == NULL && tern_error_code(error) == TERN_ERR_GRAMMAR && strstr(tern_error_message(error), bad[i].place));
    CHECK(strlen(tern_error_message(error)) > 12);
    tern_error_free(error);
  }
}

/* The mask: under a grammar only tokens that it allows have a chance, whatever the steps before it in the chain are. */
static void masks(void) {
  tern_grammar *g = compile(TERN_GRAMMAR_REGEX, "[xyz]{4}");
  tern_context *c = NULL;
  tern_sampler *s = NULL;
  char text[64], all[64] = "";
  int32_t eog = 0;
  tern_token t;
  int i;
  OK_E(tern_context_new(m, NULL, &c, &error));
  OK(tern_sampler_new(5, &s));
  OK(tern_sampler_add_temp(s, 1.5f));
  OK(tern_sampler_add_top_k(s, 2));
  OK(tern_sampler_add_grammar(s, g));
  tern_grammar_free(g);
  t = 3;
  for (i = 0; i < 5; i++) {
    OK(tern_eval(c, &t, 1, NULL, NULL));
    OK(tern_sampler_sample(s, c, 0, &t));
    OK(tern_token_is_eog(m, t, &eog));
    if (eog) break;
    OK(tern_token_to_piece(m, t, 0, text, sizeof text, &n));
    strcat(all, text);
  }
  CHECK(eog == 1 && strlen(all) == 4 && strspn(all, "xyz") == 4);
  OK(tern_tokenize(m, "x", 1, 0, &t, 1, &n));
  IS(TERN_ERR_GRAMMAR, tern_sampler_accept(s, t)); /* the text is complete */
  OK(tern_sampler_reset(s));
  OK(tern_sampler_accept(s, t));
  tern_sampler_free(s);
  tern_context_free(c);
}

/* One compiled grammar on two threads' worth of sessions, step by step in turn. */
static void shared(void) {
  tern_grammar *g = compile(TERN_GRAMMAR_REGEX, "(ab|cd){10}");
  tern_session *s[2] = {NULL, NULL};
  static struct said said[2];
  tern_generate_options o;
  tern_chunk chunk;
  int i, done = 0;
  tern_generate_options_init(&o, sizeof o);
  o.grammar = g;
  memset(said, 0, sizeof said);
  for (i = 0; i < 2; i++) {
    OK_E(tern_session_new(m, NULL, &s[i], &error));
    OK_E(tern_session_start(s[i], "Letters?", TERN_NUL_TERMINATED, &o, &error));
  }
  tern_grammar_free(g);
  tern_chunk_init(&chunk, sizeof chunk);
  while (done != 3) {
    for (i = 0; i < 2; i++) {
      tern_status status;
      if (done & 1 << i) continue;
      status = tern_session_next(s[i], 0, &chunk);
      CHECK(status == TERN_OK || status == TERN_DONE);
      hear(&said[i], &chunk);
      if (status == TERN_DONE) done |= 1 << i;
    }
  }
  CHECK(said[0].len == 20 && strcmp(said[0].text, said[1].text) == 0 && strspn(said[0].text, "abcd") == 20);
  for (i = 0; i < 2; i++) tern_session_free(s[i]);
}

/* score is what an eval's rows say; choose is what score says. */
static void weighed(void) {
  static const char *choices[4] = {" Once upon a time", " Purple", " the dog said nothing", " a"};
  tern_context *c = NULL, *d = NULL;
  tern_token ids[64], top[2048];
  float scores[64], logprobs[2048], probs[4];
  double weights[4], total = 0;
  tern_eval_options o;
  size_t i, k, n_top, index = 9, best = 0;
  uint32_t length = 0;
  OK_E(tern_context_new(m, NULL, &c, &error));
  OK_E(tern_context_new(m, NULL, &d, &error));
  tern_eval_options_init(&o, sizeof o);
  OK(tern_tokenize(m, "The dog ran to the big tree and", TERN_NUL_TERMINATED, TERN_TOK_ADD_SPECIAL, ids, 64, &n));
  CHECK(n > 8 && n < 40);
  OK(tern_score(c, ids, n, &o, NULL, 0, &k)); /* an empty sequence: none for the first */
  CHECK(k == n - 1);
  OK(tern_eval(c, ids, 4, NULL, NULL));
  OK(tern_score(c, ids + 4, n - 4, &o, scores, 64, &k));
  CHECK(k == n - 4);
  o.flags = TERN_EVAL_LOGITS_ALL;
  OK(tern_eval(d, ids, n, &o, NULL));
  for (i = 0; i < k; i++) {
    size_t at = 0;
    OK(tern_logprobs_top(d, i + 3, 2048, top, logprobs, &n_top));
    while (at < n_top && top[at] != ids[i + 4]) at++;
    CHECK(at < n_top && fabsf(scores[i] - logprobs[at]) < 1e-4f);
  }
  OK(tern_seq_length(c, 0, &length));
  CHECK(length == 4);

  OK(tern_choose(c, choices, NULL, 4, NULL, &index, probs));
  for (i = 0; i < 4; i++) {
    OK(tern_tokenize(m, choices[i], TERN_NUL_TERMINATED, 0, ids, 64, &n));
    OK(tern_score(c, ids, n, NULL, scores, 64, &k));
    weights[i] = 0;
    while (k > 0) weights[i] += scores[--k];
    total += exp(weights[i]);
    if (weights[i] > weights[best]) best = i;
  }
  CHECK(index == best);
  for (i = 0; i < 4; i++) CHECK(fabs(probs[i] - exp(weights[i]) / total) < 1e-4);
  OK(tern_seq_length(c, 0, &length));
  CHECK(length == 4);
  tern_context_free(c);
  tern_context_free(d);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  OK_E(tern_model_load_from_file(argv[1], NULL, &m, &error));
  OK(tern_sampler_new(0, &greedy));
  kinds();
  refusals();
  masks();
  shared();
  weighed();
  tern_sampler_free(greedy);
  tern_model_free(m);
  return 0;
}
