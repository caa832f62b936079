/* Loading, looking inside, tokens. */
#include "fixture.hpp"

#ifdef _WIN32
#include <io.h>
#endif
#include <cstring>

void version_and_statuses() {
  tern::check_version();
  CHECK_EQ(std::string(tern_version_string()), std::to_string(TERN_VERSION_MAJOR) + "." +
      std::to_string(TERN_VERSION_MINOR) + "." + std::to_string(TERN_VERSION_PATCH));
  // Each status that the library names has a description here, and none else has.
  const std::string stranger = tern::describe(static_cast<tern::status>(-999));
  for (int i = -200; i <= 200; ++i) {
    const bool named = std::strcmp(tern_status_name(i), "TERN_?") != 0;
    const bool described = tern::describe(static_cast<tern::status>(i)) != stranger;
    CHECK_EQ(named, described) || std::fprintf(stderr, "  status %d, %s\n", i, tern_status_name(i));
  }
  CHECK(tern::system_info().find('{') == 0);
  tern::self_test();
}

// The cases of load-errors.txt: a file of each kind, and the whole message.
void load_errors_have_their_golden_texts() {
  const auto whole = check::read_file(model_path);
  const std::string head(whole.begin(), whole.begin() + 4096);
  std::string version = head;
  version[4] = '\x63';
  const struct {
    const char *name;
    const std::string bytes;
  } cases[] = {{"missing", ""}, {"empty", ""}, {"text", "This is no model.\n"}, {"truncated", head}, {"version", version}};
  std::string all;
  for (const auto &c : cases) {
    const std::string path = std::string("tern-test-") + c.name + ".gguf";
    std::remove(path.c_str());
    if (c.name != std::string("missing")) std::ofstream(path, std::ios::binary) << c.bytes;
    const caught e = failure_of([&] { (void)tern::model::from_file(path); });
    std::remove(path.c_str());
    std::string text = e.text;
    const auto at = text.find(path);
    if (at != std::string::npos) text.replace(at, path.size(), "{path}");
#ifdef _WIN32
    // Another system has other words for the same error 2.
    const auto words = text.find("open {path}: "), number = text.find(" (os error 2)");
    if (words < number && number != std::string::npos) text.replace(words + 13, number - words - 13, "No such file or directory");
#endif
    all += std::string(c.name) + "\t" + tern_status_name(static_cast<tern_status>(e.code)) + "\t" + text + "\n";
  }
  CHECK_EQ(all, golden("load-errors.txt"));
}

void load_errors_say_what_and_where() {
  caught e = failure_of([] { (void)tern::model::from_file("/nowhere/at-all.gguf"); });
  CHECK_EQ(e.code, tern::status::io);
  CHECK(e.text.find("/nowhere/at-all.gguf") != std::string::npos) || std::fprintf(stderr, "  %s\n", e.text.c_str());

  const auto bytes = check::read_file(model_path);
  e = failure_of([&] { (void)tern::model::from_memory(bytes.data(), 100); });
  CHECK_EQ(e.code, tern::status::bad_model);
  CHECK(!e.text.empty());
  e = failure_of([&] { (void)tern::model::from_memory(bytes.data(), bytes.size() / 2); });
  CHECK_EQ(e.code, tern::status::bad_model);
  auto spoiled = bytes;
  spoiled[0] = 'X';
  e = failure_of([&] { (void)tern::model::from_memory(std::move(spoiled)); });
  CHECK(e.code == tern::status::bad_model || e.code == tern::status::unsupported_model);
  tern::model_options o;
  o.kernels = "abacus";
  e = failure_of([&] { (void)tern::model::from_file(model_path, o); });
  CHECK_EQ(e.code, tern::status::unsupported);
}

// A source that counts its lives, and fails or throws on demand.
struct counted_source {
  const std::vector<std::uint8_t> *bytes;
  int *alive;
  int throw_at;
  counted_source(const std::vector<std::uint8_t> &b, int &a, int t = -1) : bytes(&b), alive(&a), throw_at(t) { ++*alive; }
  counted_source(counted_source &&o) noexcept : bytes(o.bytes), alive(o.alive), throw_at(o.throw_at) { ++*alive; }
  ~counted_source() { --*alive; }
  std::uint64_t length() const { return bytes->size(); }
  bool read_at(std::uint64_t offset, void *dst, std::size_t n) {
    if (throw_at-- == 0) throw host_error("the archive is locked");
    if (offset > bytes->size() || n > bytes->size() - offset) return false;
    std::memcpy(dst, bytes->data() + offset, n);
    return true;
  }
};

void loads_from_everywhere() {
  const auto bytes = check::read_file(model_path);
  const tern_model_info want = load().info();
  CHECK(want.n_vocab > 0);

  const auto same = [&](const tern::model &m) { CHECK_EQ(m.info().n_params, want.n_params); };
  same(tern::model::from_memory(bytes.data(), bytes.size()));
  same(tern::model::from_memory(std::vector<std::uint8_t>(bytes)));
  // A file inside a file, as in an archive.
  std::FILE *archive = std::tmpfile();
  const std::vector<std::uint8_t> padding(4096 + 24);
  std::fwrite(padding.data(), 1, padding.size(), archive);
  std::fwrite(bytes.data(), 1, bytes.size(), archive);
  std::fwrite(padding.data(), 1, padding.size(), archive);
  std::fflush(archive);
#ifdef _WIN32
  same(tern::model::from_handle(reinterpret_cast<void *>(_get_osfhandle(fileno(archive))), padding.size(), bytes.size()));
#else
  same(tern::model::from_fd(fileno(archive), padding.size(), bytes.size()));
#endif
  std::fclose(archive);

  int alive = 0;
  same(tern::model::from_reader(counted_source(bytes, alive)));
  CHECK_EQ(alive, 0);
  std::string text;
  try {
    (void)tern::model::from_reader(counted_source(bytes, alive, 2));
  } catch (const host_error &e) {
    text = e.what();
  }
  CHECK_EQ(text, std::string("the archive is locked"));
  CHECK_EQ(alive, 0);

  // The library outlives the first owner.
  auto first = load();
  auto second = first.share();
  { auto gone = std::move(first); }
  same(second);
}

void progress_is_told_and_can_stop() {
  float last = -1;
  int calls = 0;
  (void)tern::model::from_file(model_path, {}, [&](float f) {
    CHECK(f >= last && f <= 1);
    last = f;
    ++calls;
    return true;
  });
  CHECK(calls > 0);
  CHECK_EQ(last, 1.0F);
  CHECK_EQ(failure_of([] { (void)tern::model::from_file(model_path, {}, [](float) { return false; }); }).code,
      tern::status::cancelled);
  std::string text;
  try {
    (void)tern::model::from_file(model_path, {}, [](float) -> bool { throw host_error("the window is closed"); });
  } catch (const host_error &e) {
    text = e.what();
  }
  CHECK_EQ(text, std::string("the window is closed"));
  tern::cancel cancelled;
  cancelled.set();
  tern::model_options o;
  o.cancel = &cancelled;
  CHECK_EQ(failure_of([&] { (void)tern::model::from_file(model_path, o); }).code, tern::status::cancelled);
  cancelled.reset();
  (void)tern::model::from_file(model_path, o);
}

void tokens_make_the_round_trip() {
  const auto m = load();
  for (const std::string &text : {std::string(), std::string("Hello, world!"), std::string("a\tb\r\n  c"), golden("text.txt")}) {
    const auto tokens = m.tokenize(text);
    CHECK_EQ(m.detokenize(tokens), text);
    std::string pieces;
    for (tern::token t : tokens) pieces += m.piece(t);
    CHECK_EQ(pieces, text);
  }
  std::string ids;
  for (tern::token t : m.tokenize(golden("text.txt"), TERN_TOK_ADD_SPECIAL)) ids += std::to_string(t) + "\n";
  CHECK_EQ(ids, golden("text-tokens.txt"));
  const auto plain = m.tokenize("Hello");
  const auto marked = m.tokenize("Hello", TERN_TOK_ADD_SPECIAL);
  CHECK_EQ(marked.size(), plain.size() + 1);
  const auto info = m.info();
  CHECK_EQ(marked.front(), info.bos);
  CHECK(m.is_eog(info.eos));
  CHECK(!m.is_eog(plain.front()));
  CHECK(m.is_control(info.eos));
  CHECK_EQ(failure_of([&] { (void)m.piece(static_cast<tern::token>(info.n_vocab)); }).code, tern::status::invalid_argument);
  CHECK(m.meta_count() > 10);
  CHECK_EQ(m.meta(m.meta_key(0)), m.meta(m.meta_key(0)));
  CHECK_EQ(m.meta("general.architecture").empty(), false);
  CHECK_EQ(failure_of([&] { (void)m.meta("no.such.key"); }).code, tern::status::not_found);
  CHECK_EQ(failure_of([&] { (void)m.meta_key(1U << 30); }).code, tern::status::not_found);
}
