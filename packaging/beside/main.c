/* One program with tern, another Rust library and a C library of the same names: each keeps its own. */
#include <tern.h>

#include <stdio.h>

struct ggml_context;
struct ggml_context *ggml_init(int unused);
void ggml_free(struct ggml_context *c);
int llg_new_constraint(void);
int llg_free_constraint(void);
int llg_get_error(void);
int other_answer(void);

int main(int argc, char **argv) {
  tern_model *m = NULL;
  tern_grammar *g = NULL;
  tern_error *e = NULL;
  struct ggml_context *c = ggml_init(0);
  if (argc < 2) return 2;
  /* A grammar runs the code whose C names the neighbour has taken. */
  if (tern_model_load_from_file(argv[1], NULL, &m, &e) != TERN_OK ||
      tern_grammar_compile(m, TERN_GRAMMAR_REGEX, "[a-z]+", TERN_NUL_TERMINATED, &g, &e) != TERN_OK) {
    fprintf(stderr, "%s\n", tern_error_message(e));
    return 1;
  }
  /* And a panic in the other library must find the other's handler. */
  if (other_answer() != 42) return fprintf(stderr, "other_answer: %d\n", other_answer()), 1;
  if (llg_new_constraint() + llg_free_constraint() + llg_get_error() != 24) return fprintf(stderr, "the neighbour's names are taken\n"), 1;
  if (tern_model_load_from_file("/nowhere", NULL, &m, &e) != TERN_ERR_IO) return fprintf(stderr, "no error\n"), 1;
  tern_error_free(e);
  tern_grammar_free(g);
  tern_model_free(m);
  ggml_free(c);
  puts("tern, another Rust library and a C library live in one program");
  return 0;
}
