//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// errMissing says that a program is not installed.
var errMissing = errors.New("not installed")

// installed finds a program, also where only root's PATH leads.
func installed(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, errMissing)
}

// startProxy starts a proxy in front of an origin, which has the client's core:
// it idles while there are hits. command gets the addresses of both.
func startProxy(s setting, command func(addr, origin string) (*exec.Cmd, error)) (*instance, error) {
	origin, err := startLineServer(clientCore, s.serve("origin")...)
	if err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		origin.kill()
		return nil, err
	}
	cmd, err := command(addr, origin.addr)
	if err != nil {
		origin.kill()
		return nil, err
	}
	log, err := os.Create(filepath.Join(s.dir, "output.log"))
	if err != nil {
		origin.kill()
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// Or it would outlive us if we were killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	p, err := spawn(cmd, serverCore)
	if err != nil {
		origin.kill()
		return nil, err
	}
	in := &instance{
		process: p,
		addr:    addr,
		runs:    func() (int64, error) { return origin.number("runs") },
		settle:  func() error { return nil },
		stats:   func() string { return "none" },
		end:     func() { p.stop(syscall.SIGTERM); origin.end() },
		kill:    func() { p.kill(); origin.kill() },
	}
	if err := awaitListening(p, addr); err != nil {
		in.kill()
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	return in, nil
}

// startNginx runs nginx with one worker and an empty configuration otherwise, but
// for limits that a long run would meet.
func startNginx(s setting) (*instance, error) {
	nginx, err := installed("nginx")
	if err != nil {
		return nil, err
	}
	return startProxy(s, func(addr, origin string) (*exec.Cmd, error) {
		user := ""
		if os.Geteuid() == 0 {
			user = "user root;" // the directory is ours alone
		}
		conf := fmt.Sprintf(`
%s
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events { worker_connections 1024; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	client_body_temp_path body;
	proxy_temp_path temp;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	proxy_cache_path cache levels=1:2 keys_zone=pages:64m max_size=8g inactive=1d use_temp_path=off;
	upstream origin { server %s; keepalive 16; }
	server {
		listen %s;
		location / {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache pages;
			proxy_cache_valid 200 1h;
		}
	}
}
`, user, origin, addr)
		file := filepath.Join(s.dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return nil, err
		}
		return exec.Command(nginx, "-p", s.dir, "-e", "error.log", "-c", file), nil
	})
}

// startVarnish runs Varnish with 1 GiB of memory and its defaults otherwise. With
// a tag it has xkey.
func startVarnish(s setting) (*instance, error) {
	varnishd, err := installed("varnishd")
	if err != nil {
		return nil, err
	}
	in, err := startProxy(s, func(addr, origin string) (*exec.Cmd, error) {
		host, port, err := net.SplitHostPort(origin)
		if err != nil {
			return nil, err
		}
		vcl := fmt.Sprintf("vcl 4.1;\nbackend default { .host = %q; .port = %q; }\n", host, port)
		if s.tag != "" {
			vcl += `
import xkey;
sub vcl_recv {
	if (req.method == "PURGE") {
		return (synth(200, "Purged " + xkey.purge(req.http.xkey)));
	}
}
sub vcl_deliver { unset resp.http.xkey; }
`
		}
		file := filepath.Join(s.dir, "default.vcl")
		if err := os.WriteFile(file, []byte(vcl), 0o600); err != nil {
			return nil, err
		}
		return exec.Command(varnishd, "-F", "-j", "none", "-n", filepath.Join(s.dir, "varnish"),
			"-a", addr, "-T", "none", "-f", file, "-s", "malloc,1g",
			"-t", fmt.Sprint(int(lifetime.Seconds()))), nil
	})
	if err != nil {
		if strings.Contains(err.Error(), "Could not load VMOD") {
			return nil, fmt.Errorf("xkey (package varnish-modules): %w", errMissing)
		}
		return nil, err
	}
	in.invalidate = func(tag string) (time.Duration, error) { return purge(in.addr, tag) }
	return in, nil
}

// purge asks Varnish to purge what bears the tag, and takes the time until it says
// that it has.
func purge(addr, tag string) (time.Duration, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	start := time.Now()
	if _, err := fmt.Fprintf(conn, "PURGE / HTTP/1.1\r\nHost: peers.test\r\nXkey: %s\r\n\r\n", tag); err != nil {
		return 0, err
	}
	a, err := readAnswer(bufio.NewReader(conn))
	took := time.Since(start)
	if err == nil && a.status != 200 {
		err = fmt.Errorf("PURGE: status %d", a.status)
	}
	return took, err
}
