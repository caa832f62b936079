/* The same classes without exceptions: every call answers with a value or an error. Built with -fno-exceptions. */
#include <tern.hpp>

#include "check.hpp"

#include <cstring>

#ifdef __cpp_exceptions
#  error "this file is to be built without exceptions"
#endif

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const auto golden = [&](const char *name) {
    const auto bytes = check::read_file(std::string(argv[2]) + "/" + name);
    return std::string(bytes.begin(), bytes.end());
  };
  CHECK(tern::check_version());

  auto none = tern::model::from_file("/nowhere/at-all.gguf");
  CHECK(!none);
  CHECK_EQ(none.code(), tern::status::io);
  CHECK(std::strstr(none.failure()->what(), "/nowhere/at-all.gguf") != nullptr);

  auto model = tern::model::from_file(argv[1]);
  if (!CHECK(model)) return 1;
  auto tokens = model->tokenize("Hello, world!");
  CHECK(tokens && *model->detokenize(*tokens) == "Hello, world!");
  CHECK_EQ(model->meta("no.such.key").code(), tern::status::not_found);

  auto best = tern::sampler::create(0);
  auto session = tern::session::create(*model);
  if (!CHECK(best && session)) return 1;
  tern::generate_options o;
  o.sampler = &*best;
  o.max_tokens = 48;
  std::string all;
  auto reply = session->ask(golden("chat-prompt.txt"), o);
  if (CHECK(reply)) {
    for (std::string_view piece : *reply) all += piece;
    CHECK_EQ(reply->failure(), tern::status::ok);
    CHECK(reply->finish() == tern::finish::eog || reply->finish() == tern::finish::length);
  }
  CHECK_EQ(all, golden("chat-greedy.txt"));
  auto text = session->respond("What is your favorite food?", o);
  CHECK(text && !text->empty());

  // A cancelled answer ends its loop, and the reply says why.
  auto cancel = tern::cancel::create();
  if (!CHECK(cancel)) return 1;
  o.cancel = &*cancel;
  auto stopped = session->ask("Tell me a story about a dog.", o);
  if (CHECK(stopped)) {
    for (std::string_view piece : *stopped) {
      CHECK(!piece.empty());
      cancel->set();
    }
    CHECK_EQ(stopped->failure(), tern::status::cancelled);
  }
  CHECK_EQ(session->respond("Hi!", o).code(), tern::status::cancelled);
  CHECK_EQ(session->next().code(), tern::status::invalid_state);
  CHECK_EQ(best->top_k(40).code(), tern::status::ok);
  CHECK_EQ(tern::grammar::json_schema(*model, "{").code(), tern::status::grammar);

  auto taken = std::move(*session);
  CHECK_EQ(session->save().code(), tern::status::invalid_argument);
  std::printf("%s without exceptions\n", check::failures == 0 ? "ok  " : "FAIL");
  return check::failures == 0 ? 0 : 1;
}
