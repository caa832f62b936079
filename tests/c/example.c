/* The example of the header's preamble, as a whole program: example MODEL. build.rs copies the lines between the
   marks into the header; tests/c_api.rs compiles and runs this. */
#include "tern.h"
#include <stdio.h>

static int32_t on_chunk(void *user_data, const tern_chunk *chunk) {
  *(size_t *)user_data += fwrite(chunk->utf8, 1, chunk->len, stdout);
  return 1;
}

static int example(const char *path) {
  size_t n = 0;
  /* [example] */
  tern_model *m = NULL; tern_session *s = NULL; tern_error *e = NULL;
  if (tern_model_load_from_file(path, NULL, &m, &e) == TERN_OK &&
      tern_session_new(m, NULL, &s, &e) == TERN_OK)
    tern_session_respond(s, "Hello!", TERN_NUL_TERMINATED, NULL, on_chunk, &n, &e);
  if (e) fprintf(stderr, "%s\n", tern_error_message(e));
  tern_session_free(s); tern_model_free(m); tern_error_free(e);
  /* [end] */
  return n > 0 ? 0 : 1;
}

int main(int argc, char **argv) { return argc == 2 ? example(argv[1]) : 2; }
