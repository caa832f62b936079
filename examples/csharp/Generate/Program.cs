// mcs -out:generate.exe -r:Tern.dll Program.cs && LD_LIBRARY_PATH=target/release mono generate.exe -m MODEL "Once upon a time"
using System;
using System.Globalization;
using System.IO;
using System.Text;
using Tern;

static class Program
{
    static int Main(string[] args)
    {
        string path = null, prompt = null;
        int n = 64;
        float temp = 0;
        ulong seed = 0;
        try
        {
            for (int i = 0; i < args.Length; i++)
                switch (args[i])
                {
                    case "-m": path = args[++i]; break;
                    case "-n": n = int.Parse(args[++i], CultureInfo.InvariantCulture); break;
                    case "--temp": temp = float.Parse(args[++i], CultureInfo.InvariantCulture); break;
                    case "--seed": seed = ulong.Parse(args[++i], CultureInfo.InvariantCulture); break;
                    default: prompt = prompt == null ? args[i] : throw new FormatException(); break;
                }
            if (path == null || prompt == null) throw new FormatException();
        }
        catch (Exception e) when (e is FormatException || e is IndexOutOfRangeException || e is OverflowException)
        {
            Console.Error.WriteLine("usage: generate -m MODEL [-n N] [--temp T] [--seed S] PROMPT");
            return 2;
        }
        try
        {
            Generate(path, prompt, n, temp, seed);
            return 0;
        }
        catch (TernException e)
        {
            Console.Error.WriteLine("error: " + e.Message);
            return 1;
        }
    }

    static void Generate(string path, string prompt, int n, float temp, ulong seed)
    {
        using (Stream stdout = Console.OpenStandardOutput()) // bytes: the console's encoding may be any
        using (var model = Model.Load(path))
        using (var context = model.CreateContext())
        using (var detok = new Detok(model))
        using (var sampler = new Sampler(seed))
        {
            if (temp > 0) sampler.TopK(40).Temp(temp);
            int[] tokens = model.Tokenize(prompt);
            for (int i = 0; i < n; i++)
            {
                context.Eval(tokens);
                int token = sampler.Sample(context);
                if (model.IsEog(token)) break;
                Say(stdout, detok.Push(token));
                tokens = new[] { token };
            }
            Say(stdout, detok.Finish() + "\n");
        }
    }

    static void Say(Stream stdout, string text)
    {
        byte[] bytes = new UTF8Encoding(false).GetBytes(text);
        stdout.Write(bytes, 0, bytes.Length);
        stdout.Flush();
    }
}
