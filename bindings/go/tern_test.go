// The conformance list that every binding passes, in one file: long because the list is.

package tern

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// The conformance list, the same in every language; bindings/python/test_tern.py has more of the low layer.

var root, _ = filepath.Abs("../..")

func modelPath() string {
	if path := os.Getenv("TERN_MODEL"); path != "" {
		return path
	}
	return filepath.Join(root, strings.TrimSpace(file("examples/models/default.txt")))
}

func file(path string) string {
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		panic(err)
	}
	return string(data)
}

func golden(name string) string { return file("tests/data/golden/" + name) }

// must gives a value that the test cannot do without.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var shared = sync.OnceValue(func() *Model { return must(Load(modelPath())) })

func want[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func refused(t *testing.T, err error, status Status) {
	t.Helper()
	if !errors.Is(err, status) {
		t.Errorf("got %v, want %v", err, status)
	}
}

func generate(m *Model, prompt string, n int, s *Sampler) string {
	c := must(m.NewContext(ContextOptions{}))
	defer c.Close()
	d := must(m.NewDetok(0))
	defer d.Close()
	tokens := must(m.Tokenize(prompt, AddSpecial))
	var text strings.Builder
	for range n {
		must(c.Eval(context.Background(), tokens, EvalOptions{}))
		token := must(s.Sample(c, 0))
		if must(m.IsEOG(token)) {
			break
		}
		text.WriteString(must(d.Push(token)))
		tokens = []Token{token}
	}
	return text.String() + must(d.Finish()) + "\n"
}

func chatGreedy(s *Session) (string, error) {
	sampler := must(NewSampler(0))
	defer sampler.Close()
	return s.Respond(context.Background(), golden("chat-prompt.txt"), GenerateOptions{Sampler: sampler, MaxTokens: 48})
}

func greedy(max int) GenerateOptions {
	return GenerateOptions{Sampler: must(NewSampler(0)), MaxTokens: max}
}

func TestVersionIsChecked(t *testing.T) {
	if err := checkVersion(1999); err != nil {
		t.Error(err)
	}
	for _, wrong := range []uint32{2000, 1000000} {
		if checkVersion(wrong) == nil {
			t.Error(wrong)
		}
	}
	if !strings.HasPrefix(Version(), "0.1.") || !strings.Contains(must(SystemInfo()), "kernels") {
		t.Error(Version(), must(SystemInfo()))
	}
}

func TestEveryStatusHasItsName(t *testing.T) {
	names := map[Status]string{
		OK: "OK", Done: "DONE", Pending: "PENDING", InvalidArgument: "ERR_INVALID_ARGUMENT", OutOfMemory: "ERR_OUT_OF_MEMORY", IO: "ERR_IO",
		BadModel: "ERR_BAD_MODEL", UnsupportedModel: "ERR_UNSUPPORTED_MODEL", Unsupported: "ERR_UNSUPPORTED",
		BufferTooSmall: "ERR_BUFFER_TOO_SMALL", ContextFull: "ERR_CONTEXT_FULL", Cancelled: "ERR_CANCELLED", Busy: "ERR_BUSY",
		GrammarError: "ERR_GRAMMAR", StateMismatch: "ERR_STATE_MISMATCH", Panic: "ERR_PANIC", Poisoned: "ERR_POISONED",
		InvalidState: "ERR_INVALID_STATE", NotFound: "ERR_NOT_FOUND",
	}
	for status, name := range names {
		want(t, status.String(), "TERN_"+name)
	}
	want(t, len(names), 19)
	want(t, Status(-17).String(), "TERN_?")
	want(t, Status(3).String(), "TERN_?")
}

func TestLoadErrorsHaveTheirTexts(t *testing.T) {
	head := []byte(must(os.ReadFile(modelPath())))[:4096]
	version := bytes.Clone(head)
	version[4] = 0x63
	folder := t.TempDir()
	var got strings.Builder
	for _, c := range []struct {
		name string
		data []byte
	}{{"missing", nil}, {"empty", []byte{}}, {"text", []byte("This is no model.\n")}, {"truncated", head}, {"version", version}} {
		path := filepath.Join(folder, c.name+".gguf")
		if c.data != nil {
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Load(path)
		var e *Error
		if !errors.As(err, &e) {
			t.Fatal(c.name, err)
		}
		fmt.Fprintf(&got, "%s\t%v\t%s\n", c.name, e.Status, strings.ReplaceAll(e.Message, path, "{path}"))
	}
	want(t, got.String(), golden("load-errors.txt"))
}

func TestLoadFromOtherSources(t *testing.T) {
	ctx, data := context.Background(), must(os.ReadFile(modelPath()))
	vocab := must(shared().Info()).Vocab
	seen := float32(-1)
	m := must(LoadReader(ctx, bytes.NewReader(data), int64(len(data)), LoadOptions{Progress: func(f float32) bool {
		if f < seen {
			t.Errorf("progress went back from %v to %v", seen, f)
		}
		seen = f
		return true
	}}))
	want(t, must(m.Info()).Vocab, vocab)
	m.Close()
	if seen < 0 || seen > 1 {
		t.Error(seen)
	}
	want(t, must(must(LoadBytes(ctx, data, LoadOptions{})).Info()).Vocab, vocab)
	_, err := LoadReader(ctx, bytes.NewReader(data[:100]), int64(len(data)), LoadOptions{})
	refused(t, err, IO)
	_, err = LoadWith(ctx, modelPath(), LoadOptions{Progress: func(float32) bool { return false }})
	refused(t, err, Cancelled)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = LoadWith(ended, modelPath(), LoadOptions{})
	refused(t, err, Cancelled)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTokensComeBackAsText(t *testing.T) {
	m, text := shared(), golden("text.txt")
	tokens := must(m.Tokenize(text, AddSpecial))
	var ids strings.Builder
	for _, token := range tokens {
		fmt.Fprintln(&ids, token)
	}
	want(t, ids.String(), golden("text-tokens.txt"))
	want(t, must(m.Detokenize(tokens, RemoveSpecial)), text)
	want(t, len(must(m.Tokenize("", 0))), 0)
	var pieces []byte
	for _, token := range must(m.Tokenize(text, 0)) {
		pieces = append(pieces, must(m.Piece(token, 0))...)
	}
	want(t, string(pieces), text)
}

func TestCharactersSplitOverTokensComeWhole(t *testing.T) {
	m, text := shared(), "a🦙b👩‍👩‍👧é"
	d := must(m.NewDetok(0))
	var got string
	empty := 0
	for _, token := range must(m.Tokenize(text, 0)) {
		piece := must(d.Push(token))
		if piece == "" {
			empty++
		}
		if !utf8.ValidString(piece) {
			t.Errorf("%q", piece)
		}
		got += piece
	}
	want(t, got+must(d.Finish()), text)
	if empty == 0 {
		t.Error("no character was split: choose rarer ones")
	}
}

func TestStreamGivesWholeCharacters(t *testing.T) {
	// The two share their first bytes, so a token often ends inside one.
	g := must(shared().NewGrammar(Regex, "(🦙|🌍){6}"))
	defer g.Close()
	s := shared().NewSession("")
	defer s.Close()
	o := GenerateOptions{Sampler: must(NewSampler(3, Temp(1))), Grammar: g}
	var pieces []string
	for piece, err := range s.Ask(context.Background(), "Hi", o) {
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.ValidString(piece) {
			t.Errorf("%q", piece)
		}
		pieces = append(pieces, piece)
	}
	if !regexp.MustCompile("^(🦙|🌍){6}$").MatchString(strings.Join(pieces, "")) || len(pieces) <= 3 {
		t.Error(pieces)
	}
}

func TestTextIsGolden(t *testing.T) {
	m, prompt := shared(), golden("story-prompt.txt")
	want(t, generate(m, prompt, 64, must(NewSampler(0))), golden("story-greedy.txt"))
	want(t, generate(m, prompt, 64, must(NewSampler(7, TopK(40), Temp(0.8)))), golden("story-seed7.txt"))
	want(t, must(chatGreedy(m.NewSession(""))), golden("chat-greedy.txt"))
}

func TestJSONSchemaIsKept(t *testing.T) {
	m := shared()
	g := must(m.NewGrammar(JSONSchema, `{"type":"object","properties":{"name":{"enum":["Tom","Lily"]},"age":{"type":"integer","minimum":0,
		"maximum":99}},"required":["name","age"],"additionalProperties":false}`))
	s := m.NewSession("")
	for seed := range uint64(4) {
		o := GenerateOptions{Grammar: g, Sampler: must(NewSampler(seed, Temp(1))), MaxTokens: 120}
		answer := must(s.Respond(context.Background(), "Who?", o))
		var v struct {
			Name string
			Age  *int
		}
		d := json.NewDecoder(strings.NewReader(answer))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil || v.Age == nil || !slices.Contains([]string{"Tom", "Lily"}, v.Name) {
			t.Error(answer, err)
		}
	}
	_, err := m.NewGrammar(Regex, "(")
	refused(t, err, GrammarError)
}

func TestStopStringsAreNotShown(t *testing.T) {
	whole := golden("chat-greedy.txt")
	o := greedy(48)
	o.Stop = []string{whole[20:24], "never said"}
	want(t, must(shared().NewSession("").Respond(context.Background(), golden("chat-prompt.txt"), o)), whole[:strings.Index(whole, o.Stop[0])])
}

func TestCancelInTheMiddleOfAPrefill(t *testing.T) {
	m, bg := shared(), context.Background()
	tokens := must(m.Tokenize(strings.Repeat(golden("story-prompt.txt"), 12), AddSpecial))
	whole, c := must(m.NewContext(ContextOptions{})), must(m.NewContext(ContextOptions{}))
	must(whole.Eval(bg, tokens, EvalOptions{}))
	ctx, cancel := context.WithCancel(bg)
	done := must(c.Eval(ctx, tokens, EvalOptions{Budget: 1000}))
	if done >= len(tokens) {
		t.Fatal("the budget did not end the call")
	}
	cancel()
	more, err := c.Eval(ctx, tokens[done:], EvalOptions{})
	refused(t, err, Cancelled)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	want(t, must(c.Length(0)), done+more)
	must(c.Eval(bg, tokens[done+more:], EvalOptions{}))
	if !slices.Equal(must(c.Logits(0)), must(whole.Logits(0))) {
		t.Error("logits differ after a cancel")
	}
}

func endless(t *testing.T) Step {
	bias := map[Token]float32{}
	for token := range Token(must(shared().Info()).Vocab) {
		if must(shared().IsEOG(token)) {
			bias[token] = float32(must(strconv.ParseFloat("-inf", 32)))
		}
	}
	if len(bias) == 0 {
		t.Fatal("no token ends an answer")
	}
	return LogitBias(bias)
}

func TestCancelOfAnAnswer(t *testing.T) {
	s := shared().NewSession("")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var said string
	n := 0
	var last error
	for piece, err := range s.Ask(ctx, "Tell me a story.", GenerateOptions{Sampler: must(NewSampler(0, endless(t)))}) {
		last = err
		said += piece
		if n++; n == 3 {
			cancel()
		}
	}
	refused(t, last, Cancelled)
	if !errors.Is(last, context.Canceled) {
		t.Error(last)
	}
	messages := must(s.Messages())
	if !strings.HasPrefix(messages[len(messages)-1].Content, said) {
		t.Error(messages, said)
	}
	for range s.Ask(context.Background(), "Tell me a story.", greedy(0)) {
		break // ends the answer
	}
	if must(s.Respond(context.Background(), "Hi", greedy(4))) == "" {
		t.Error("no answer after a break")
	}
}

func TestForkSaveAndRestoreSayTheSame(t *testing.T) {
	s := shared().NewSession("You are a pirate.")
	must(s.Respond(context.Background(), "Hi", greedy(8)))
	fork, restored := must(s.Fork()), must(shared().RestoreSession(must(s.Save()), SessionOptions{}))
	first := must(chatGreedy(s))
	for _, other := range []*Session{fork, restored} {
		want(t, must(chatGreedy(other)), first)
		if !slices.Equal(must(other.Messages()), must(s.Messages())) {
			t.Error(must(other.Messages()))
		}
	}
	_, err := shared().RestoreSession([]byte("no state"), SessionOptions{})
	refused(t, err, StateMismatch)
	copied := shared().NewSession("")
	if err := copied.SetMessages(must(s.Messages())); err != nil {
		t.Error(err)
	}
	want(t, len(must(copied.Messages())), 5)
}

func TestTwoSessionsOnTwoThreads(t *testing.T) {
	var wait sync.WaitGroup
	for range 2 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			s := shared().NewSession("")
			defer s.Close()
			answer, err := chatGreedy(s)
			if err != nil || answer != golden("chat-greedy.txt") {
				t.Error(answer, err)
			}
		}()
	}
	wait.Wait()
}

func TestOneSessionOnManyGoroutinesIsSafe(t *testing.T) {
	s := shared().NewSession("")
	var wait sync.WaitGroup
	for range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 10 {
				_, err := s.Respond(context.Background(), "Hi", greedy(2))
				if err != nil && !errors.Is(err, Busy) && !errors.Is(err, InvalidState) && !errors.Is(err, ContextFull) {
					t.Error(err)
				}
			}
		}()
	}
	wait.Wait()
}

func TestDoubleCloseAndUseAfterClose(t *testing.T) {
	m := must(Load(modelPath()))
	s, c, d, g, p := m.NewSession(""), must(m.NewContext(ContextOptions{})), must(m.NewDetok(0)), must(m.NewGrammar(JSON, "")), must(NewSampler(0))
	m.Close()
	want(t, must(chatGreedy(s)), golden("chat-greedy.txt")) // holds the model
	for range 2 {
		for _, closer := range []interface{ Close() error }{m, s, c, d, g, p} {
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	_, info := m.Info()
	_, ask := s.Respond(context.Background(), "Hi")
	_, eval := c.Eval(context.Background(), []Token{1}, EvalOptions{})
	_, push := d.Push(1)
	for _, err := range []error{info, ask, eval, push, p.Reset(), m.NewSession("").Err()} {
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

func TestCloseDuringAnAnswer(t *testing.T) {
	s := shared().NewSession("")
	var last error
	for _, err := range s.Ask(context.Background(), "Tell me a story.", greedy(0)) {
		last = err
		s.Close()
	}
	if !errors.Is(last, ErrClosed) {
		t.Error(last)
	}
}
