/* The five steps: load, tokenize, eval, sample, print. The same program exists in every language.

   cargo build --release && ln -sf libtern.so target/release/libtern.so.0
   cc -std=c11 -Iinclude examples/c/generate.c -Ltarget/release -ltern -Wl,-rpath,$PWD/target/release -o generate
   ./generate -m "$(cat examples/models/default.txt)" "Once upon a time" */
#include <tern.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tern_model *model;
static tern_context *context;
static tern_sampler *sampler;
static tern_detok *detok;
static tern_token *tokens;
static tern_error *error;

/* Everything is freed in any order; NULL is fine. */
static void finish(void) {
  free(tokens);
  tern_error_free(error);
  tern_detok_free(detok);
  tern_sampler_free(sampler);
  tern_context_free(context);
  tern_model_free(model);
}

static void check(tern_status status) {
  if (status == TERN_OK) return;
  fprintf(stderr, "error: %s\n", error ? tern_error_message(error) : tern_status_name(status));
  exit(1);
}

int main(int argc, char **argv) {
  const char *path = NULL, *prompt = NULL, *utf8;
  long n = 64;
  float temp = 0;
  uint64_t seed = 0;
  size_t count, len;
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (!strcmp(argv[i], "-m") && value) path = argv[++i];
    else if (!strcmp(argv[i], "-n") && value) n = strtol(argv[++i], NULL, 10);
    else if (!strcmp(argv[i], "--temp") && value) temp = strtof(argv[++i], NULL);
    else if (!strcmp(argv[i], "--seed") && value) seed = strtoull(argv[++i], NULL, 10);
    else if (!prompt) prompt = argv[i];
    else path = NULL, i = argc;
  }
  if (!path || !prompt) return fprintf(stderr, "generate -m MODEL [-n N] [--temp T] [--seed S] PROMPT\n"), 2;
  atexit(finish);

  check(tern_model_load_from_file(path, NULL, &model, &error));
  check(tern_context_new(model, NULL, &context, &error));
  check(tern_tokenize(model, prompt, TERN_NUL_TERMINATED, TERN_TOK_ADD_SPECIAL, NULL, 0, &count));
  if (!(tokens = (tern_token *)malloc(count * sizeof *tokens + 1))) return 1;
  check(tern_tokenize(model, prompt, TERN_NUL_TERMINATED, TERN_TOK_ADD_SPECIAL, tokens, count, &count));
  check(tern_sampler_new(seed, &sampler));
  if (temp > 0) check(tern_sampler_add_top_k(sampler, 40));
  if (temp > 0) check(tern_sampler_add_temp(sampler, temp));
  check(tern_detok_new(model, 0, &detok));
  check(tern_eval(context, tokens, count, NULL, NULL));
  while (n-- > 0) {
    tern_token token;
    int32_t is_eog;
    check(tern_sampler_sample(sampler, context, 0, &token));
    check(tern_token_is_eog(model, token, &is_eog));
    if (is_eog) break;
    check(tern_detok_push(detok, token, &utf8, &len));
    fwrite(utf8, 1, len, stdout);
    fflush(stdout);
    check(tern_eval(context, &token, 1, NULL, NULL));
  }
  check(tern_detok_finish(detok, &utf8, &len));
  printf("%.*s\n", (int)len, utf8);
  return 0;
}
