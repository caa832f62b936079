/* A conversation in every way the interface has: streamed, pulled, stopped, forked, saved, cut to fit: session MODEL FOLDER. */
#include "check.h"

#define STORY "Tell me a story about a dog."

static tern_model *m;
static tern_sampler *greedy;
static char json[1 << 15];
static size_t n;

static tern_session *fresh(const char *instructions, uint32_t n_ctx, int32_t on_full) {
  tern_session *s = NULL;
  tern_session_params p;
  tern_context_params c;
  tern_session_params_init(&p, sizeof p);
  tern_context_params_init(&c, sizeof c);
  c.n_ctx = n_ctx;
  p.context = &c;
  p.on_full = on_full;
  p.instructions = instructions;
  p.instructions_len = instructions ? TERN_NUL_TERMINATED : 0;
  OK_E(tern_session_new(m, &p, &s, &error));
  return s;
}

static tern_generate_options at_most(uint32_t max_tokens) {
  tern_generate_options o;
  tern_generate_options_init(&o, sizeof o);
  o.sampler = greedy;
  o.max_tokens = max_tokens;
  return o;
}

/* Tokens that went through the model, and tokens that the cache holds. */
static uint64_t evaluated(tern_session *s) {
  tern_context *c = NULL;
  tern_perf perf;
  tern_perf_init(&perf, sizeof perf);
  OK(tern_session_context(s, &c));
  OK(tern_context_perf(c, &perf));
  return perf.n_prefill + perf.n_decode;
}

static uint32_t held(tern_session *s) {
  tern_context *c = NULL;
  uint32_t length = 0;
  OK(tern_session_context(s, &c));
  OK(tern_seq_length(c, 0, &length));
  return length;
}

static const char *transcript(const tern_session *s) {
  OK(tern_session_transcript_to_json(s, json, sizeof json, &n));
  return json;
}

static int whole_utf8(const char *text, size_t len) {
  const unsigned char *p = (const unsigned char *)text;
  size_t i = 0, more;
  while (i < len) {
    more = p[i] < 0x80 ? 0 : p[i] >= 0xf0 ? 3 : p[i] >= 0xe0 ? 2 : p[i] >= 0xc2 ? 1 : 9;
    for (i++; more > 0; more--, i++)
      if (i >= len || (p[i] & 0xc0) != 0x80) return 0;
  }
  return 1;
}

static void streams(void) {
  static struct said pushed, pulled;
  tern_generate_options o = at_most(60);
  tern_session *s = fresh(NULL, 0, 0);
  tern_chunk chunk;
  uint64_t budget;
  ask(s, STORY, &o, &pushed);
  CHECK(pushed.len > 40 && pushed.chunks > 20 && whole_utf8(pushed.text, pushed.len));
  CHECK(strstr(transcript(s), "\"assistant\"") && strstr(json, "\"user\""));
  tern_session_free(s);
  tern_chunk_init(&chunk, sizeof chunk);
  /* step by step, without a budget and with one that is always spent; and with guesses ahead */
  for (budget = 0; budget < 3; budget++) {
    int steps = 0, pending = 0;
    tern_status status;
    s = fresh(NULL, 0, 0);
    memset(&pulled, 0, sizeof pulled);
    o.draft = budget == 2 ? TERN_DRAFT_PROMPT_LOOKUP : TERN_DRAFT_NONE;
    OK_E(tern_session_start(s, STORY, TERN_NUL_TERMINATED, &o, &error));
    do {
      status = tern_session_next(s, budget == 1 ? 1 : 0, &chunk);
      CHECK(status == TERN_OK || status == TERN_DONE || (status == TERN_PENDING && chunk.len == 0));
      CHECK((status == TERN_DONE) == (chunk.finish_reason != TERN_FINISH_NONE));
      CHECK(status != TERN_OK || chunk.token >= 0);
      pending += status == TERN_PENDING;
      hear(&pulled, &chunk);
      CHECK(++steps < 100000);
    } while (status != TERN_DONE);
    CHECK(strcmp(pushed.text, pulled.text) == 0 && pushed.finish == pulled.finish);
    CHECK((pending > 100) == (budget == 1));
    IS(TERN_ERR_INVALID_STATE, tern_session_next(s, 0, &chunk)); /* DONE comes once */
    tern_session_free(s);
  }
}

/* Text of many bytes a character, by a grammar that leaves no choice. */
static void characters(void) {
  static const char said[] = "na\xc3\xafve \xe2\x82\xac" "5 \xf0\x9f\x99\x82\xf0\x9f\x99\x83 \xe6\xbc\xa2\xe5\xad\x97";
  char source[128];
  tern_grammar *g = NULL;
  tern_generate_options o = at_most(0);
  tern_session *s = fresh(NULL, 0, 0);
  tern_chunk chunk;
  tern_status status;
  struct said heard;
  snprintf(source, sizeof source, "[\"%s\"]", said);
  OK_E(tern_grammar_compile(m, TERN_GRAMMAR_CHOICE, source, TERN_NUL_TERMINATED, &g, &error));
  o.grammar = g;
  memset(&heard, 0, sizeof heard);
  tern_chunk_init(&chunk, sizeof chunk);
  OK_E(tern_session_start(s, "Say it", TERN_NUL_TERMINATED, &o, &error));
  tern_grammar_free(g); /* retained */
  do {
    status = tern_session_next(s, 0, &chunk);
    CHECK(status == TERN_OK || status == TERN_DONE);
    CHECK(whole_utf8(chunk.utf8, chunk.len));
    hear(&heard, &chunk);
  } while (status != TERN_DONE);
  CHECK(strcmp(heard.text, said) == 0 && heard.finish == TERN_FINISH_EOG);
  tern_session_free(s);
}

static void stops(void) {
  static struct said whole, cut;
  char stop[2][8];
  const char *list[2];
  const size_t lens[2] = {5, 4};
  tern_generate_options o = at_most(60);
  tern_session *s = fresh(NULL, 0, 0);
  size_t at;
  ask(s, STORY, &o, &whole);
  tern_session_free(s);
  list[0] = stop[0];
  list[1] = stop[1];
  o.stop = list;
  o.stop_lens = lens;
  for (at = 1; at + 5 < whole.len; at += 29) {
    const char *first, *second;
    /* not NUL-terminated, and the second overlaps the first */
    memcpy(stop[0], whole.text + at, 5);
    memcpy(stop[1], whole.text + at + 2, 4);
    stop[0][5] = stop[1][4] = 0;
    o.n_stop = 2;
    first = strstr(whole.text, stop[0]);
    second = strstr(whole.text, stop[1]);
    CHECK(first && second);
    memset(stop[0] + 5, 'x', 3);
    s = fresh(NULL, 0, 0);
    ask(s, STORY, &o, &cut);
    /* the one that ends first */
    if (second + 4 < first + 5) first = second;
    CHECK(cut.finish == TERN_FINISH_STOP && cut.len == (size_t)(first - whole.text));
    CHECK(memcmp(cut.text, whole.text, cut.len) == 0);
    tern_session_free(s);
  }
  o = at_most(5);
  s = fresh(NULL, 0, 0);
  ask(s, STORY, &o, &cut);
  CHECK(cut.finish == TERN_FINISH_LENGTH && memcmp(cut.text, whole.text, cut.len) == 0);
  tern_session_free(s);
}

static void reuse(void) {
  static struct said first, a, b, again;
  tern_generate_options o = at_most(24);
  tern_session *s = fresh("Be kind.", 0, 0), *fork = NULL, *back = NULL;
  tern_message turn;
  uint64_t before;
  uint32_t length;
  void *blob;
  OK(tern_session_prewarm(s, NULL));
  CHECK(held(s) > 3 && evaluated(s) == held(s));
  before = evaluated(s);
  OK(tern_session_prewarm(s, NULL));
  CHECK(evaluated(s) == before);
  ask(s, "Hello!", &o, &first);
  /* nothing is evaluated twice */
  length = held(s);
  before = evaluated(s);
  OK(tern_session_fork(s, &fork));
  ask(s, "Do you like music?", &o, &a);
  CHECK(evaluated(s) - before == held(s) - length && first.len > 0);
  ask(fork, "What is your favorite food?", &o, &b);
  CHECK(strcmp(a.text, b.text) != 0);
  /* the fork and its origin are what two sessions would have been that never met */
  back = fresh("Be kind.", 0, 0);
  ask(back, "Hello!", &o, &again);
  CHECK(strcmp(again.text, first.text) == 0);
  OK(tern_session_save(back, NULL, 0, &n));
  blob = malloc(n);
  CHECK(blob);
  OK(tern_session_save(back, blob, n, &n));
  ask(back, "What is your favorite food?", &o, &again);
  CHECK(strcmp(again.text, b.text) == 0);
  tern_session_free(back);
  tern_session_free(fork);
  OK_E(tern_session_restore(m, blob, n, NULL, &back, &error));
  free(blob);
  before = evaluated(back);
  ask(back, "Do you like music?", &o, &again);
  CHECK(strcmp(again.text, a.text) == 0 && evaluated(back) - before < 60);
  CHECK(strcmp(transcript(back), transcript(s)) == 0);

  /* edited history keeps the instructions unless it brings its own */
  memset(&turn, 0, sizeof turn);
  turn.role = "user";
  turn.content = "Hello, you!";
  turn.role_len = turn.content_len = TERN_NUL_TERMINATED;
  before = evaluated(s);
  OK_E(tern_session_set_messages(s, &turn, sizeof turn, 1, &error));
  OK(tern_session_prewarm(s, NULL));
  CHECK(strcmp(transcript(s), "[{\"role\":\"system\",\"content\":\"Be kind.\"},{\"role\":\"user\",\"content\":\"Hello, you!\"}]") == 0);
  CHECK(evaluated(s) - before < 8);
  turn.role = "system";
  turn.content = "Be brief.";
  OK_E(tern_session_set_messages(s, &turn, sizeof turn, 1, &error));
  CHECK(strcmp(transcript(s), "[{\"role\":\"system\",\"content\":\"Be brief.\"}]") == 0);
  OK_E(tern_session_set_messages(s, NULL, sizeof turn, 0, &error));
  CHECK(strcmp(transcript(s), "[{\"role\":\"system\",\"content\":\"Be brief.\"}]") == 0);
  OK_E(tern_session_transcript_from_json(s, "[{\"role\":\"user\",\"content\":\"\\u00e9\"}]", TERN_NUL_TERMINATED, &error));
  CHECK(strstr(transcript(s), "Be brief.") && strstr(json, "\xc3\xa9"));
  tern_session_free(back);
  tern_session_free(s);
}

static void full(void) {
  static struct said said, short_one;
  char before[4096];
  tern_generate_options o = at_most(0), few = at_most(20);
  tern_session *s = fresh("Be kind.", 96, TERN_ON_FULL_ERROR);
  tern_chunk chunk;
  int i;
  ask(s, STORY, &o, &said);
  CHECK(said.finish == TERN_FINISH_CONTEXT_FULL && said.len > 50 && held(s) <= 96);
  snprintf(before, sizeof before, "%s", transcript(s));
  IS(TERN_ERR_CONTEXT_FULL, tern_session_start(s, STORY, TERN_NUL_TERMINATED, &o, NULL));
  CHECK(strcmp(before, transcript(s)) == 0);
  tern_chunk_init(&chunk, sizeof chunk);
  IS(TERN_ERR_INVALID_STATE, tern_session_next(s, 0, &chunk));
  tern_session_free(s);

  s = fresh("Be kind.", 96, TERN_ON_FULL_DROP_TURNS);
  for (i = 0; i < 5; i++) {
    ask(s, "What is your favorite food?", &few, &short_one);
    CHECK(short_one.len > 0 && held(s) <= 96 && strstr(transcript(s), "Be kind."));
  }
  {
    const char *at = json;
    for (i = 0; (at = strstr(at, "\"user\"")) != NULL; at++) i++;
    CHECK(i > 0 && i < 5); /* the oldest went */
  }
  tern_session_free(s);

  s = fresh("Be kind.", 96, TERN_ON_FULL_SHIFT);
  o = at_most(150);
  ask(s, STORY, &o, &said);
  CHECK(held(s) <= 96 && (said.finish == TERN_FINISH_LENGTH || said.finish == TERN_FINISH_EOG) && said.len > 200);
  tern_session_free(s);
}

/* The host stops by its callback, by the token, and by stop: whole text, kept. */
struct stopper { struct said said; int after; tern_cancel *cancel; };
static int32_t stop_after(void *user_data, const tern_chunk *chunk) {
  struct stopper *s = (struct stopper *)user_data;
  hear(&s->said, chunk);
  if (s->said.chunks < s->after) return 1;
  if (!s->cancel) return 0;
  tern_cancel_set(s->cancel);
  return 1;
}

static void stopped(void) {
  static struct stopper stop;
  tern_generate_options o = at_most(60);
  tern_cancel *cancel = NULL;
  tern_session *s;
  tern_chunk chunk;
  int by_token, i;
  OK(tern_cancel_new(&cancel));
  for (by_token = 0; by_token < 2; by_token++) {
    s = fresh(NULL, 0, 0);
    memset(&stop, 0, sizeof stop);
    stop.after = 9;
    stop.cancel = by_token ? cancel : NULL;
    o.cancel = cancel;
    tern_cancel_reset(cancel);
    IS(TERN_ERR_CANCELLED, tern_session_respond(s, STORY, TERN_NUL_TERMINATED, &o, stop_after, &stop, NULL));
    CHECK(stop.said.chunks == 9 && stop.said.len > 0 && strstr(transcript(s), stop.said.text));
    tern_cancel_reset(cancel);
    ask(s, "And then?", &o, &stop.said);
    tern_session_free(s);
  }
  s = fresh(NULL, 0, 0);
  OK_E(tern_session_start(s, STORY, TERN_NUL_TERMINATED, &o, &error));
  tern_cancel_free(cancel); /* retained */
  memset(&stop, 0, sizeof stop);
  tern_chunk_init(&chunk, sizeof chunk);
  for (i = 0; i < 5; i++) {
    OK(tern_session_next(s, 0, &chunk));
    hear(&stop.said, &chunk);
  }
  OK(tern_session_stop(s));
  IS(TERN_ERR_INVALID_STATE, tern_session_next(s, 0, &chunk));
  CHECK(strstr(transcript(s), stop.said.text));
  tern_session_free(s);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  OK_E(tern_model_load_from_file(argv[1], NULL, &m, &error));
  OK(tern_sampler_new(0, &greedy));
  streams();
  characters();
  stops();
  reuse();
  full();
  stopped();
  tern_sampler_free(greedy);
  tern_model_free(m);
  return 0;
}
