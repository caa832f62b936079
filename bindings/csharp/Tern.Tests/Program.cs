// The conformance list, the same in every language; bindings/python/test_tern.py has more of the low layer.
// A program of its own, since no test framework is the same on mono and CoreCLR: prints each test, then "N passed, N failed".
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Tern;

static class Tests
{
    static readonly string Root = FindRoot();
    static readonly string ModelPath = Environment.GetEnvironmentVariable("TERN_MODEL")
        ?? Path.Combine(Root, File.ReadAllText(Path.Combine(Root, "examples/models/default.txt")).Trim());
    static readonly int Rounds = int.Parse(Environment.GetEnvironmentVariable("TERN_LEAK_ROUNDS") ?? "1000", CultureInfo.InvariantCulture);
    static readonly Lazy<Model> Shared = new Lazy<Model>(() => Model.Load(ModelPath));

    static string FindRoot()
    {
        string folder = Directory.GetCurrentDirectory();
        while (!File.Exists(Path.Combine(folder, "examples/models/default.txt")))
            folder = Path.GetDirectoryName(folder) ?? throw new FileNotFoundException("run inside the repository");
        return folder;
    }

    static int Main(string[] args)
    {
        int passed = 0, failed = 0;
        foreach (var method in typeof(Tests).GetMethods(System.Reflection.BindingFlags.NonPublic | System.Reflection.BindingFlags.Static))
        {
            if (method.GetParameters().Length > 0 || !method.Name.StartsWith("Test") || args.Length > 0 && !args.Contains(method.Name)) continue;
            try
            {
                method.Invoke(null, null);
                Console.WriteLine("ok     " + method.Name);
                passed++;
            }
            catch (Exception e)
            {
                Console.WriteLine("FAILED " + method.Name + ": " + (e.InnerException ?? e));
                failed++;
            }
        }
        Console.WriteLine(passed + " passed, " + failed + " failed");
        return failed == 0 && passed > 0 ? 0 : 1;
    }

    // ---- helpers

    static string Golden(string name) => new UTF8Encoding(false).GetString(File.ReadAllBytes(Path.Combine(Root, "tests/data/golden", name)));

    static void Equal<T>(T got, T want)
    {
        if (!EqualityComparer<T>.Default.Equals(got, want)) throw new Exception("got  <" + got + ">\nwant <" + want + ">");
    }

    static void Sure(bool condition, object what)
    {
        if (!condition) throw new Exception("not so: " + what);
    }

    static E Throws<E>(Action call) where E : Exception
    {
        try
        {
            call();
        }
        catch (E e)
        {
            return e;
        }
        throw new Exception("did not throw " + typeof(E).Name);
    }

    static void Refused(TernStatus status, Action call) => Equal(Throws<TernException>(call).Status, status);

    static GenerateOptions Greedy(int max) => new GenerateOptions { Sampler = new Sampler(), MaxTokens = max };

    static string ChatGreedy(Session s) => s.Respond(Golden("chat-prompt.txt"), Greedy(48));

    static string Generate(Model m, string prompt, int n, Sampler sampler)
    {
        using (var context = m.CreateContext())
        using (var detok = new Detok(m))
        {
            var text = new StringBuilder();
            int[] tokens = m.Tokenize(prompt);
            for (int i = 0; i < n; i++)
            {
                context.Eval(tokens);
                int token = sampler.Sample(context);
                if (m.IsEog(token)) break;
                text.Append(detok.Push(token));
                tokens = new[] { token };
            }
            return text + detok.Finish() + "\n";
        }
    }

    // ---- the library

    static void TestVersionIsChecked()
    {
        Library.CheckVersion(1999);
        Throws<DllNotFoundException>(() => Library.CheckVersion(2000));
        Throws<DllNotFoundException>(() => Library.CheckVersion(1000000));
        Sure(Library.Version.StartsWith("0.1."), Library.Version);
        Sure(Library.SystemInfo.Contains("kernels"), Library.SystemInfo);
        Library.SelfTest();
    }

    static void TestEveryStatusHasItsName()
    {
        foreach (TernStatus status in Enum.GetValues(typeof(TernStatus)))
        {
            string name = Regex.Replace(status.ToString(), "(?<=[a-z])(?=[A-Z])", "_").ToUpperInvariant();
            Equal(TernException.NameOf(status), (status < 0 ? "TERN_ERR_" : "TERN_") + name);
        }
        Equal(Enum.GetValues(typeof(TernStatus)).Length, 19);
        Equal(TernException.NameOf((TernStatus)(-17)), "TERN_?");
        Equal(TernException.NameOf((TernStatus)3), "TERN_?");
    }

    static void TestLoadErrorsHaveTheirTexts()
    {
        byte[] head = File.ReadAllBytes(ModelPath).Take(4096).ToArray();
        byte[] version = (byte[])head.Clone();
        version[4] = 0x63;
        string folder = Path.Combine(Path.GetTempPath(), "tern-" + Guid.NewGuid());
        Directory.CreateDirectory(folder);
        var cases = new Dictionary<string, byte[]> { { "missing", null }, { "empty", new byte[0] },
            { "text", Encoding.ASCII.GetBytes("This is no model.\n") }, { "truncated", head }, { "version", version } };
        var got = new StringBuilder();
        foreach (string name in new[] { "missing", "empty", "text", "truncated", "version" })
        {
            string path = Path.Combine(folder, name + ".gguf");
            if (cases[name] != null) File.WriteAllBytes(path, cases[name]);
            TernException e = Throws<TernException>(() => Model.Load(path));
            got.Append(name + "\t" + TernException.NameOf(e.Status) + "\t" + e.Message.Replace(path, "{path}") + "\n");
        }
        Directory.Delete(folder, true);
        Equal(got.ToString(), Golden("load-errors.txt"));
    }

    static void TestLoadReportsProgressAndStops()
    {
        var seen = new List<float>();
        Model.Load(ModelPath, new LoadOptions { Progress = f => { seen.Add(f); return true; } }).Dispose();
        Sure(seen.Count > 0 && seen.SequenceEqual(seen.OrderBy(f => f)) && seen.Last() <= 1, string.Join(" ", seen));
        Refused(TernStatus.Cancelled, () => Model.Load(ModelPath, new LoadOptions { Progress = f => false }));
        Throws<FormatException>(() => Model.Load(ModelPath, new LoadOptions { Progress = f => throw new FormatException() }));
        Throws<OperationCanceledException>(() => Model.Load(ModelPath, null, new CancellationToken(true)));
        Equal(Model.Load(File.ReadAllBytes(ModelPath)).Info.Vocab, Shared.Value.Info.Vocab);
        Equal(Model.LoadAsync(ModelPath).Result.Info.Layers, Shared.Value.Info.Layers);
        Equal(Shared.Value.Meta("general.architecture"), "bitnet-b1.58");
        Refused(TernStatus.NotFound, () => Shared.Value.Meta("no.such.key"));
    }

    // ---- text

    static void TestTokensComeBackAsText()
    {
        Model m = Shared.Value;
        string text = Golden("text.txt");
        int[] tokens = m.Tokenize(text);
        Equal(string.Concat(tokens.Select(t => t.ToString(CultureInfo.InvariantCulture) + "\n")), Golden("text-tokens.txt"));
        Equal(m.Detokenize(tokens, true), text);
        byte[] pieces = m.Tokenize(text, false).SelectMany(t => m.Piece(t)).ToArray();
        Equal(Encoding.UTF8.GetString(pieces), text);
        Equal(m.Tokenize("", false).Length, 0);
    }

    static void TestCharactersSplitOverTokensComeWhole()
    {
        Model m = Shared.Value;
        string text = "a🦙b👩‍👩‍👧é";
        using (var detok = new Detok(m))
        {
            string[] pieces = m.Tokenize(text, false).Select(t => detok.Push(t)).ToArray();
            Sure(pieces.Contains(""), "a character was split: else choose rarer ones");
            Sure(pieces.All(Whole), string.Join("|", pieces));
            Equal(string.Concat(pieces) + detok.Finish(), text);
        }
    }

    /// <summary>No half of a surrogate pair, no replacement character.</summary>
    static bool Whole(string s) => !s.Contains("\uFFFD") && (s.Length == 0 || !char.IsLowSurrogate(s[0]) && !char.IsHighSurrogate(s[s.Length - 1]));

    static void TestStreamGivesWholeCharacters()
    {
        using (Session s = Shared.Value.CreateSession())
        using (Grammar g = Shared.Value.CreateGrammar(GrammarKind.Regex, "(🦙|🌍){6}")) // they share their first bytes
        {
            string[] pieces = s.Ask("Hi", new GenerateOptions { Sampler = new Sampler(3).Temp(1), Grammar = g }).ToArray();
            Sure(Regex.IsMatch(string.Concat(pieces), "^(🦙|🌍){6}$"), string.Concat(pieces));
            Sure(pieces.Length > 3 && pieces.All(Whole), string.Join("|", pieces));
        }
    }

    // ---- generation

    static void TestTextIsGolden()
    {
        Model m = Shared.Value;
        string prompt = Golden("story-prompt.txt");
        Equal(Generate(m, prompt, 64, new Sampler()), Golden("story-greedy.txt"));
        Equal(Generate(m, prompt, 64, new Sampler(7).TopK(40).Temp(0.8f)), Golden("story-seed7.txt"));
        Equal(ChatGreedy(m.CreateSession()), Golden("chat-greedy.txt"));
    }

    static void TestTaskStreams()
    {
        var pieces = new StringBuilder();
        Task<string> task = Shared.Value.CreateSession().RespondAsync(Golden("chat-prompt.txt"), Greedy(48), p => pieces.Append(p));
        Equal(task.Result, Golden("chat-greedy.txt"));
        Equal(pieces.ToString(), Golden("chat-greedy.txt"));
    }

    static void TestJsonSchemaIsKept()
    {
        string schema = "{\"type\":\"object\",\"properties\":{\"name\":{\"enum\":[\"Tom\",\"Lily\"]},\"age\":{\"type\":\"integer\",\"minimum\":0,"
            + "\"maximum\":99}},\"required\":[\"name\",\"age\"],\"additionalProperties\":false}";
        using (Session s = Shared.Value.CreateSession())
        using (Grammar g = Shared.Value.CreateGrammar(GrammarKind.JsonSchema, schema))
            for (ulong seed = 0; seed < 4; seed++)
            {
                string answer = s.Respond("Who?", new GenerateOptions { Grammar = g, Sampler = new Sampler(seed).Temp(1), MaxTokens = 120 });
                Sure(Regex.IsMatch(answer, "^\\{\\s*\"name\"\\s*:\\s*\"(Tom|Lily)\"\\s*,\\s*\"age\"\\s*:\\s*\\d{1,2}\\s*\\}$"), answer);
            }
        Refused(TernStatus.Grammar, () => Shared.Value.CreateGrammar(GrammarKind.Regex, "("));
    }

    static void TestStopStringsAreNotShown()
    {
        string whole = Golden("chat-greedy.txt"), stop = whole.Substring(20, 4);
        GenerateOptions o = Greedy(48);
        o.Stop = new[] { stop, "never said" };
        Equal(Shared.Value.CreateSession().Respond(Golden("chat-prompt.txt"), o), whole.Substring(0, whole.IndexOf(stop, StringComparison.Ordinal)));
    }

    // ---- cancel

    static void TestCancelInTheMiddleOfAPrefill()
    {
        Model m = Shared.Value;
        int[] tokens = m.Tokenize(string.Concat(Enumerable.Repeat(Golden("story-prompt.txt"), 12)));
        using (Context whole = m.CreateContext())
        using (Context context = m.CreateContext())
        {
            whole.Eval(tokens);
            var source = new CancellationTokenSource();
            int done = context.Eval(tokens, 0, Rows.Last, 1, source.Token);
            Sure(done < tokens.Length, "the budget ended the call");
            source.Cancel();
            int[] rest = tokens.Skip(done).ToArray();
            Throws<OperationCanceledException>(() => context.Eval(rest, 0, Rows.Last, 0, source.Token));
            context.Eval(tokens.Skip(context.Length()).ToArray());
            Sure(context.Logits().SequenceEqual(whole.Logits()), "the logits are the same after a cancel");
        }
    }

    static Sampler Endless()
    {
        var bias = Enumerable.Range(0, (int)Shared.Value.Info.Vocab).Where(t => Shared.Value.IsEog(t)).ToDictionary(t => t, t => float.NegativeInfinity);
        Sure(bias.Count > 0, "a token ends an answer");
        return new Sampler().LogitBias(bias);
    }

    static void TestCancelOfAnAnswer()
    {
        using (Session s = Shared.Value.CreateSession())
        {
            var source = new CancellationTokenSource();
            int n = 0;
            Task<string> task = s.RespondAsync("Tell me a story.", new GenerateOptions { Sampler = Endless() }, p => { if (++n == 3) source.Cancel(); },
                source.Token);
            Exception e = Throws<AggregateException>(() => task.Wait()).InnerException;
            Sure(e is OperationCanceledException && task.IsCanceled, e);
            Sure(s.Transcript.Contains("assistant"), s.Transcript);
            foreach (string piece in s.Ask("Tell me a story.", Greedy(0))) break; // ends the answer
            Sure(s.Respond("Hi", Greedy(4)).Length > 0, "an answer after a break");
        }
    }

    // ---- fork, save, threads

    static void TestForkSaveAndRestoreSayTheSame()
    {
        Model m = Shared.Value;
        Session s = m.CreateSession("You are a pirate.");
        s.Respond("Hi", Greedy(8));
        Session fork = s.Fork(), restored = m.RestoreSession(s.Save());
        string first = ChatGreedy(s);
        foreach (Session other in new[] { fork, restored })
        {
            Equal(ChatGreedy(other), first);
            Equal(other.Transcript, s.Transcript);
        }
        Refused(TernStatus.StateMismatch, () => m.RestoreSession(Encoding.ASCII.GetBytes("no state")));
        Session copy = m.CreateSession();
        copy.Transcript = s.Transcript;
        Equal(copy.Transcript, s.Transcript);
        copy = m.CreateSession();
        copy.SetMessages(new[] { new Message("user", "Hi 🦙") });
        Equal(copy.Transcript.Replace(" ", ""), "[{\"role\":\"user\",\"content\":\"Hi🦙\"}]");
        using (Context c = m.CreateContext(new ContextOptions { Sequences = 2 }))
        {
            int[] tokens = m.Tokenize("Once upon a time");
            c.Eval(tokens);
            c.LoadState(c.SaveState(), 1);
            Equal(c.Length(1), tokens.Length);
        }
    }

    static void TestTwoSessionsOnTwoThreads()
    {
        Task<string>[] tasks = Enumerable.Range(0, 2).Select(_ => Task.Factory.StartNew(() => ChatGreedy(Shared.Value.CreateSession()),
            TaskCreationOptions.LongRunning)).ToArray();
        foreach (Task<string> task in tasks) Equal(task.Result, Golden("chat-greedy.txt"));
    }

    static void TestOneSessionOnManyThreadsIsSafe()
    {
        using (Session s = Shared.Value.CreateSession())
            Task.WaitAll(Enumerable.Range(0, 4).Select(_ => Task.Factory.StartNew(() =>
            {
                for (int i = 0; i < 10; i++)
                    try
                    {
                        s.Respond("Hi", Greedy(2));
                    }
                    catch (TernException e) when (e.Status == TernStatus.Busy || e.Status == TernStatus.InvalidState || e.Status == TernStatus.ContextFull)
                    {
                    }
            }, TaskCreationOptions.LongRunning)).ToArray());
    }

    // ---- lifetimes

    static void TestDoubleDisposeAndUseAfterDispose()
    {
        Model m = Model.Load(ModelPath);
        Session s = m.CreateSession();
        Context c = m.CreateContext();
        var detok = new Detok(m);
        var sampler = new Sampler();
        Grammar grammar = m.CreateGrammar(GrammarKind.Json);
        m.Dispose();
        Equal(ChatGreedy(s), Golden("chat-greedy.txt")); // holds the model
        for (int i = 0; i < 2; i++)
            foreach (IDisposable d in new IDisposable[] { m, s, c, detok, grammar, sampler }) d.Dispose();
        Throws<ObjectDisposedException>(() => { ModelInfo info = m.Info; });
        Throws<ObjectDisposedException>(() => s.Respond("Hi"));
        Throws<ObjectDisposedException>(() => c.Eval(new[] { 1 }));
        Throws<ObjectDisposedException>(() => detok.Push(1));
        Throws<ObjectDisposedException>(() => sampler.Reset());
        Throws<ObjectDisposedException>(() => m.CreateSession());
        using (Session other = Shared.Value.CreateSession())
            Throws<ObjectDisposedException>(() => other.Respond("Hi", new GenerateOptions { Grammar = grammar }));
    }

    static void TestDisposeDuringAnAnswer()
    {
        Session s = Shared.Value.CreateSession();
        Throws<ObjectDisposedException>(() => { foreach (string piece in s.Ask("Tell me a story.", Greedy(0))) s.Dispose(); });
    }

    static long Resident()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        return long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1], CultureInfo.InvariantCulture) * Environment.SystemPageSize;
    }

    /// <summary>After a warm-up, the rounds add less than 8 MiB: the collector keeps some for itself.</summary>
    static void Flat(int rounds, Action round)
    {
        for (int i = 0; i < rounds / 5 + 20; i++) round();
        long before = Resident();
        for (int i = 0; i < rounds; i++) round();
        long more = Resident() - before;
        Sure(more < 8 << 20, more + " bytes more after " + rounds + " rounds");
    }

    static void TestMemoryStaysFlatOverLoadsAndSessions()
    {
        Flat(Rounds, () =>
        {
            using (Model m = Model.Load(ModelPath))
            using (Session s = m.CreateSession("Be brief."))
            using (var source = new CancellationTokenSource())
            using (Context c = m.CreateContext())
            using (var detok = new Detok(m))
            using (Grammar g = m.CreateGrammar(GrammarKind.Choice, "[\"a\"]"))
            using (var sampler = new Sampler())
            {
                var o = new GenerateOptions { Sampler = sampler, MaxTokens = 2 };
                s.Respond("Hi", o, source.Token);
                using (Session f = s.Fork()) f.Respond("Hi", o);
                c.Eval(new[] { 1 });
            }
        });
    }

    static void TestMemoryStaysFlatOverSmallHandles()
    {
        using (var source = new CancellationTokenSource()) // can be cancelled, so that each call makes a token
            Flat(Rounds * 20, () => // exceptions are slow
            {
                new Sampler(1).Dispose();
                Refused(TernStatus.Io, () => Model.Load("/no such file", null, source.Token));
            });
    }
}
