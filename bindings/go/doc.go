// Package tern puts a ternary language model inside a Go program.
//
//	m, err := tern.Load("model.gguf")
//	if err != nil { log.Fatal(err) }
//	defer m.Close()
//	s := m.NewSession("You are a pirate.")
//	for piece, err := range s.Ask(ctx, "Is water wet?") {
//		if err != nil { log.Fatal(err) }
//		fmt.Print(piece)
//	}
//
// # Linking
//
// The package links the C library tern. By default cgo asks pkg-config for it: PKG_CONFIG_PATH names the folder of tern.pc if
// it is not a standard one. With the build tag tern_flags nothing is asked, and the library is where the environment says:
//
//	CGO_CFLAGS=-I/opt/tern/include CGO_LDFLAGS=-L/opt/tern/lib go build -tags tern_flags ./...
//
// A folder that holds only libtern.a links statically; with libtern.so the running program needs LD_LIBRARY_PATH or an rpath.
//
// # Lifetimes
//
// Every type with a Close method holds one reference into the library. Close it when done; a cleanup closes what was forgotten,
// but when is the collector's business, and a model is large. Close may be called twice, in any order among handles, and during a
// call of another goroutine, which then finishes first. A closed handle answers [ErrClosed]. Every call counts itself as a user
// of its handles, so a collection in the middle of it frees nothing.
//
// # Goroutines
//
// [Model] and [Grammar] serve any number of goroutines. [Context], [Sampler], [Detok] and [Session] serve one at a time: a second
// one is told [Busy]. Calls that may take long take a context.Context, and its end stops them within one layer of the network.
package tern
