//go:build linux

package main

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/darkweak/souin/configurationtypes"
	souin "github.com/darkweak/souin/pkg/middleware"
	"github.com/gofiber/fiber/v3"
	fibercache "github.com/gofiber/fiber/v3/middleware/cache"
	httpcache "github.com/victorspringer/http-cache"
	"github.com/victorspringer/http-cache/adapter/memory"
	"go.etcd.io/bbolt"
)

// fiberSite is Fiber with its cache middleware. Nil storage is the middleware's
// own, in memory. Response header fields are stored, as they are by all others.
func fiberSite(p *plan, storage fiber.Storage) (*site, error) {
	app := fiber.New()
	app.Use(fibercache.New(fibercache.Config{
		Expiration:           lifetime,
		Storage:              storage,
		StoreResponseHeaders: true,
	}))
	app.Get(pathPrefix+":n", func(c fiber.Ctx) error {
		p.runs.Add(1)
		for k, v := range p.content.fields {
			if k != "Content-Length" {
				c.Set(k, v[0])
			}
		}
		return c.Send(p.content.sent)
	})
	return &site{
		serve: func(ln net.Listener) error {
			return app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true})
		},
		close: func() error {
			if storage != nil {
				return storage.Close()
			}
			return nil
		},
	}, nil
}

func fiberBoltSite(p *plan) (*site, error) {
	db, err := bbolt.Open(filepath.Join(p.dir, "fiber.db"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(fiberBucket)
		return err
	})
	if err != nil {
		return nil, err
	}
	return fiberSite(p, fiberBolt{db})
}

var fiberBucket = []byte("fiber")

// fiberBolt is a fiber.Storage on bbolt in the plainest way: one bucket, a
// transaction for each call. It forgets nothing by itself; the middleware keeps
// the time of expiry in its values.
type fiberBolt struct{ db *bbolt.DB }

func (s fiberBolt) Get(key string) (val []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		// Bytes of the file must not leave the transaction.
		if v := tx.Bucket(fiberBucket).Get([]byte(key)); v != nil {
			val = append(make([]byte, 0, len(v)), v...)
		}
		return nil
	})
	return val, err
}

func (s fiberBolt) Set(key string, val []byte, _ time.Duration) error {
	if key == "" || len(val) == 0 {
		return nil
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(fiberBucket).Put([]byte(key), val) })
}

func (s fiberBolt) Delete(key string) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(fiberBucket).Delete([]byte(key)) })
}

func (s fiberBolt) Reset() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(fiberBucket); err != nil {
			return err
		}
		_, err := tx.CreateBucket(fiberBucket)
		return err
	})
}

func (s fiberBolt) Close() error { return s.db.Close() }

func (s fiberBolt) GetWithContext(_ context.Context, key string) ([]byte, error) { return s.Get(key) }
func (s fiberBolt) SetWithContext(_ context.Context, key string, val []byte, d time.Duration) error {
	return s.Set(key, val, d)
}
func (s fiberBolt) DeleteWithContext(_ context.Context, key string) error { return s.Delete(key) }
func (s fiberBolt) ResetWithContext(context.Context) error                { return s.Reset() }

// souinSite is Souin with the storage that it has built in. Its index of tags is
// off: each page that is stored rewrites, and searches, one string that has the
// names of all.
func souinSite(p *plan) (*site, error) {
	h := souin.NewHTTPCacheHandler(&souin.BaseConfiguration{
		DefaultCache: &configurationtypes.DefaultCache{
			TTL:                 configurationtypes.Duration{Duration: lifetime},
			DefaultCacheControl: "public, max-age=3600",
		},
		LogLevel:             "fatal",
		SurrogateKeyDisabled: true,
	})
	origin := p.origin()
	next := func(w http.ResponseWriter, r *http.Request) error {
		origin.ServeHTTP(w, r)
		return nil
	}
	return plainSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.ServeHTTP(w, r, next); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})), nil
}

// httpCacheSite is victorspringer/http-cache with its adapter for memory.
func httpCacheSite(p *plan) (*site, error) {
	adapter, err := memory.NewAdapter(
		memory.AdapterWithAlgorithm(memory.LRU),
		memory.AdapterWithCapacity(1<<20), // entries
	)
	if err != nil {
		return nil, err
	}
	client, err := httpcache.NewClient(
		httpcache.ClientWithAdapter(adapter),
		httpcache.ClientWithTTL(lifetime),
	)
	if err != nil {
		return nil, err
	}
	return plainSite(client.Middleware(p.origin())), nil
}
