package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/format"
)

// A build says which accel-inspect this is.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Format   int    `json:"format_version"` // that it reads
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func version() build {
	b := build{
		Version: "(devel)", Format: format.Version,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell which accel-inspect this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.called = true
			b := version()
			if a.json {
				return printJSON(a.out, b, "  ")
			}
			fmt.Fprintf(a.out, "accel-inspect %s, database format %d, %s %s\n", b.Version, b.Format, b.Go, b.Platform)
			return nil
		},
	}
}
