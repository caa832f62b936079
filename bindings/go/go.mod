module example.com/tern/go

go 1.24
