/* A C program of a stranger: one answer, every error checked. */
#include <tern.h>

#include <stdio.h>

static int32_t on_chunk(void *user_data, const tern_chunk *chunk) {
  *(size_t *)user_data += chunk->len;
  fwrite(chunk->utf8, 1, chunk->len, stdout);
  return 1;
}

int main(int argc, char **argv) {
  tern_model *m = NULL;
  tern_session *s = NULL;
  tern_error *e = NULL;
  size_t written = 0;
  if (argc < 2) return 2;
  if (tern_version_number() != TERN_VERSION_NUMBER) {
    fprintf(stderr, "tern.h of %d over libtern %s\n", (int)TERN_VERSION_NUMBER, tern_version_string());
    return 1;
  }
  if (tern_model_load_from_file(argv[1], NULL, &m, &e) == TERN_OK && tern_session_new(m, NULL, &s, &e) == TERN_OK &&
      tern_session_respond(s, "Hi! How are you?", TERN_NUL_TERMINATED, NULL, on_chunk, &written, &e) == TERN_OK) {
    puts("");
  }
  if (e) fprintf(stderr, "%s\n", tern_error_message(e));
  tern_error_free(e);
  tern_session_free(s);
  tern_model_free(m);
  return written > 0 ? 0 : 1;
}
