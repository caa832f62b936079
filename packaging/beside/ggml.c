/* tern and the real ggml in one program, both at work. */
#include <ggml.h>
#include <tern.h>

#include <stdio.h>

int main(int argc, char **argv) {
  tern_model *m = NULL;
  tern_error *e = NULL;
  tern_model_info info;
  struct ggml_init_params p = {1 << 20, NULL, false};
  struct ggml_context *c = ggml_init(p);
  if (argc < 2 || c == NULL) return 2;
  struct ggml_tensor *t = ggml_new_tensor_1d(c, GGML_TYPE_F32, 128);
  if (tern_model_load_from_file(argv[1], NULL, &m, &e) != TERN_OK) return fprintf(stderr, "%s\n", tern_error_message(e)), 1;
  tern_model_info_init(&info, sizeof info);
  if (tern_model_get_info(m, &info) != TERN_OK || info.n_vocab == 0 || ggml_nelements(t) != 128) return 1;
  printf("tern %s with %u tokens beside ggml with a tensor of %lld\n", tern_version_string(), info.n_vocab, (long long)ggml_nelements(t));
  tern_model_free(m);
  ggml_free(c);
  return 0;
}
