/* Sessions: streams, callbacks, forks, schemas, threads, misuse, memory. */
#include "fixture.hpp"

#include <regex>
#include <thread>

void emoji_split_over_tokens_come_out_whole() {
  const auto m = load();
  const std::string text = "a👋🏽b🇩🇪é東";
  tern::detokenizer d(m);
  std::string all;
  std::size_t empty = 0;
  for (tern::token t : m.tokenize(text)) {
    const std::string_view piece = d.push(t);
    CHECK(check::whole_utf8(piece.data(), piece.size()));
    empty += piece.empty() ? 1 : 0;
    all += piece;
  }
  all += d.finish();
  CHECK_EQ(all, text);
  CHECK(empty > 0);  // else no character was split and the test says nothing

  // The same through a session: a grammar leaves it no choice but emoji.
  const auto only = tern::grammar::choice(m, R"(["👋🏽🇩🇪🙂"])");
  tern::session chat(m);
  tern::generate_options o;
  o.grammar = &only;
  o.max_tokens = 64;
  all.clear();
  for (std::string_view piece : chat.ask("Wave!", o)) {
    CHECK(check::whole_utf8(piece.data(), piece.size()));
    all += piece;
  }
  CHECK_EQ(all, std::string("👋🏽🇩🇪🙂"));
}

void greedy_text_is_the_golden_text() {
  const auto m = load();
  const tern::sampler best(0);
  tern::session chat(m);
  const std::string question = golden("chat-prompt.txt");
  std::string want = golden("chat-greedy.txt");
  std::string all;
  for (std::string_view piece : chat.ask(question, greedy(best, 48))) all += piece;
  CHECK_EQ(all, want);
  CHECK_EQ(tern::session(m).respond(question, greedy(best, 48)), want);
  // The transcript holds both sides.
  const std::string transcript = chat.transcript();
  CHECK(transcript.find(question) != std::string::npos && transcript.find(want.substr(0, 12)) != std::string::npos);

  // Stop strings are not emitted, not even in part.
  auto o = greedy(best);
  const std::string word = want.substr(want.find(' ', 8) + 1, 4);
  o.stop = {word};
  tern::session again(m);
  all.clear();
  auto reply = again.ask(question, o);
  for (std::string_view piece : reply) all += piece;
  CHECK_EQ(all, want.substr(0, want.find(word)));
  CHECK_EQ(reply.finish(), tern::finish::stop);
  // So does the number of tokens.
  tern::session brief(m);
  auto few = brief.ask(story, greedy(best, 5));
  (void)few.text();
  CHECK_EQ(few.finish(), tern::finish::length);
  // A draft changes the time, not the text.
  o = greedy(best, 40);
  const std::string plain = tern::session(m).respond(story, o);
  o.draft = tern::draft::prompt_lookup;
  CHECK_EQ(tern::session(m).respond(story, o), plain);
}

void an_answer_can_be_left_early() {
  const auto m = load();
  const tern::sampler best(0);
  tern::session chat(m);
  for (std::string_view piece : chat.ask(story, greedy(best))) {
    CHECK(!piece.empty());
    break;
  }
  CHECK_EQ(chat.respond(pizza, greedy(best)).empty(), false);
  std::size_t chunks = 0;
  const auto ended = chat.respond(story, greedy(best), [&](const tern::chunk &) { return ++chunks < 3; });
  CHECK_EQ(ended, tern::finish::cancelled);
  CHECK_EQ(chunks, 3U);
  // A budget of a microsecond still ends.
  chat.start(hello, greedy(best, 8));
  std::size_t pending = 0;
  for (;;) {
    const tern::chunk c = chat.next(1);
    pending += c.status == tern::status::pending ? 1 : 0;
    if (c.status == tern::status::done) break;
  }
  CHECK(pending > 0);
  CHECK_EQ(failure_of([&] { (void)chat.next(); }).code, tern::status::invalid_state);
}

void exceptions_of_callbacks_come_out_of_the_call() {
  const auto m = load();
  const tern::sampler best(0);
  tern::session chat(m);
  std::string text;
  try {
    chat.respond(story, greedy(best), [](const tern::chunk &) -> bool { throw host_error("the label is gone"); });
  } catch (const host_error &e) {
    text = e.what();
  }
  CHECK_EQ(text, std::string("the label is gone"));
  CHECK_EQ(chat.respond(pizza, greedy(best)).empty(), false);

  // A custom step that throws at its third token, by itself and inside a session.
  int calls = 0;
  tern::sampler odd(7);
  odd.top_k(40).temp(0.8F).custom([&calls](tern::slice<float>) {
    if (++calls % 3 == 0) throw host_error("the rule is broken");
  });
  text.clear();
  std::size_t pieces = 0;
  tern::session guarded(m);
  try {
    for (std::string_view piece : guarded.ask(story, greedy(odd))) pieces += piece.size();
  } catch (const host_error &e) {
    text = e.what();
  }
  CHECK_EQ(text, std::string("the rule is broken"));
  CHECK_EQ(calls, 3);
}

void sessions_fork_and_are_saved() {
  const auto m = load();
  const tern::sampler best(0);
  tern::session chat(m, "Talk like a friend.");
  (void)chat.respond(hello, greedy(best));
  auto twin = chat.fork();
  const auto saved = chat.save();
  auto back = tern::session::restore(m, saved);
  const std::string want = chat.respond(pizza, greedy(best));
  CHECK(!want.empty());
  CHECK_EQ(twin.respond(pizza, greedy(best)), want);
  CHECK_EQ(back.respond(pizza, greedy(best)), want);
  CHECK_EQ(twin.transcript(), chat.transcript());

  tern::session written(m);
  written.set_transcript(chat.transcript());
  CHECK_EQ(written.transcript(), chat.transcript());
  const tern::message turns[] = {{"user", hello}, {"assistant", "I am well."}, {"user", pizza}};
  written.set_messages(turns);
  CHECK_EQ(written.answer_transcript(greedy(best)).text().empty(), false);
  CHECK(m.apply_template(turns).find("How are you?") != std::string::npos);
  CHECK(written.context().length() > 0);

  auto torn = saved;
  torn[torn.size() / 3] ^= 0x40;
  torn.resize(torn.size() - 7);
  CHECK_EQ(failure_of([&] { (void)tern::session::restore(m, torn); }).code, tern::status::state_mismatch);
}

void a_schema_is_obeyed() {
  const auto m = load();
  const auto g = tern::grammar::json_schema(m,
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer","minimum":0,"maximum":99}},)"
      R"("required":["name","age"],"additionalProperties":false})");
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    tern::sampler s(seed);
    s.top_k(40).temp(1.0F);
    auto o = greedy(s, 120);
    o.grammar = &g;
    const std::string text = tern::session(m).respond("Who are you?", o);
    const std::regex shape(R"re(\s*\{\s*"name"\s*:\s*"([^"\\]|\\.)*"\s*,\s*"age"\s*:\s*[0-9]{1,2}\s*\}\s*)re");
    CHECK(std::regex_match(text, shape)) || std::fprintf(stderr, "  seed %d: %s\n", static_cast<int>(seed), text.c_str());
  }
  const caught e = failure_of([&] { (void)tern::grammar::json_schema(m, R"({"type": )"); });
  CHECK_EQ(e.code, tern::status::grammar);
  CHECK(!e.text.empty());
}

void two_sessions_on_two_threads() {
  const auto m = load();
  const tern::sampler best(0);
  const std::string want_story = tern::session(m).respond(story, greedy(best, 40));
  const std::string want_pizza = tern::session(m).respond(pizza, greedy(best, 40));
  std::string got[2];
  std::thread a([&] { got[0] = tern::session(m).respond(story, greedy(best, 40)); });
  std::thread b([&] { got[1] = tern::session(m).respond(pizza, greedy(best, 40)); });
  a.join();
  b.join();
  CHECK_EQ(got[0], want_story);
  CHECK_EQ(got[1], want_pizza);
}

void misuse_is_an_error_and_no_more() {
  auto m = load();
  const tern::sampler best(0);
  tern::session chat(m);
  tern::session taken = std::move(chat);
  CHECK_EQ(failure_of([&] { (void)chat.respond(hello); }).code, tern::status::invalid_argument);
  CHECK_EQ(failure_of([&] { chat.start(hello); }).code, tern::status::invalid_argument);
  CHECK_EQ(failure_of([&] { (void)chat.next(); }).code, tern::status::invalid_argument);
  CHECK_EQ(failure_of([&] { (void)chat.save(); }).code, tern::status::invalid_argument);
  tern::context c(m);
  tern::context d = std::move(c);
  CHECK_EQ(failure_of([&] { (void)c.length(); }).code, tern::status::invalid_argument);
  tern::sampler s(1);
  tern::sampler t = std::move(s);
  CHECK_EQ(failure_of([&] { s.temp(1); }).code, tern::status::invalid_argument);
  tern::model taken_model = std::move(m);
  CHECK_EQ(failure_of([&] { (void)m.tokenize("x"); }).code, tern::status::invalid_argument);
  CHECK_EQ(failure_of([&] { (void)tern::session(m); }).code, tern::status::invalid_argument);

  // From inside its own callback a session is busy.
  tern::status inside = tern::status::ok;
  taken.respond(hello, greedy(best, 4), [&](const tern::chunk &) {
    inside = failure_of([&] { (void)taken.transcript(); }).code;
    return true;
  });
  CHECK_EQ(inside, tern::status::busy);
  // A sample before any eval.
  CHECK_EQ(failure_of([&] { (void)t.sample(d); }).code, tern::status::invalid_state);
  // A context too small for the question: nothing changes.
  tern::session_options o;
  o.context.n_ctx = 16;
  tern::session small(taken_model, o);
  CHECK_EQ(failure_of([&] { small.start(std::string(4000, 'x')); }).code, tern::status::context_full);
  CHECK_EQ(small.transcript(), std::string("[]"));
}

void memory_stays_flat() {
  const tern::sampler best(0);
  const auto round = [&] {
    const auto m = load();
    tern::session chat(m);
    (void)chat.respond(hello, greedy(best, 2));
    (void)failure_of([&] { (void)tern::model::from_file("/nowhere"); });
    auto copy = chat.fork();
  };
  for (long i = 0; i < leak_rounds / 10; ++i) round();
  const long before = check::resident_kib();
  for (long i = 0; i < leak_rounds; ++i) round();
  const long grown = check::resident_kib() - before;
  std::printf("  %ld rounds of load, session, fork: %+ld KiB of %ld\n", leak_rounds, grown, before);
#if !defined(__SANITIZE_ADDRESS__)
  // Under the address sanitizer freed memory stays in quarantine; there the leak checker answers.
  CHECK(before > 0 && grown < 2048);
#endif
}
