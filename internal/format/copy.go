package format

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// copyBytes is how much of a copy one transaction writes. bbolt holds as much in
// memory.
const copyBytes = 8 << 20

// Copy writes everything that src has into dst, which is empty, and which is a
// file of that inode. Rows come in the order of their keys, so that pages are full
// and in order. alive is asked now and then; if it says no, Copy stops and the
// copy is none.
//
// Bucket m comes last: a copy that was interrupted is not one that a program would
// use. The copy has an id of its own, because its transactions are counted anew.
func Copy(dst *bolt.DB, src *bolt.Tx, inode uint64, alive func() bool) error {
	from, err := Begin(src)
	if err != nil {
		return err
	}
	// The signature first, and in a transaction of its own, so that it lies in
	// front.
	for _, name := range [][]byte{bucketA, bucketK, bucketB, bucketX, bucketT, bucketG, bucketJ} {
		b := src.Bucket(name)
		if b == nil && bytes.Equal(name, bucketJ) {
			continue
		}
		if b == nil && bytes.Equal(name, bucketA) {
			return fmt.Errorf("%w: the signature is missing", ErrDamaged)
		}
		if err := copyBucket(dst, name, b, alive); err != nil {
			return err
		}
	}
	return dst.Update(func(btx *bolt.Tx) error {
		m, err := btx.CreateBucket(bucketM)
		if err != nil {
			return err
		}
		c := from.m.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if err := m.Put(k, v); err != nil {
				return err
			}
		}
		if err := m.Put(keyMagic, newMagic()); err != nil {
			return err
		}
		meta := from.meta
		meta.Inode = inode
		return meta.write(m.Put)
	})
}

func copyBucket(dst *bolt.DB, name []byte, from *bolt.Bucket, alive func() bool) error {
	c := from.Cursor()
	k, v := c.First()
	for first := true; first || k != nil; first = false {
		if !alive() {
			return errStopped
		}
		err := dst.Update(func(btx *bolt.Tx) error {
			b, err := btx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			b.FillPercent = 0.9 // bbolt's half would leave every page half empty
			if bytes.Equal(name, bucketB) {
				b.FillPercent = 0.95
			}
			if err := b.SetSequence(from.Sequence()); err != nil {
				return err
			}
			for size := 0; k != nil && size < copyBytes; k, v = c.Next() {
				if v == nil {
					return fmt.Errorf("%w: a bucket inside bucket %s", ErrDamaged, name)
				}
				if err := b.Put(k, v); err != nil {
					return err
				}
				size += len(k) + len(v)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var errStopped = fmt.Errorf("stopped")

// Same returns an error if two databases do not have the same rows, but for what
// tells one file from the other.
func Same(a, b *bolt.Tx, alive func() bool) error {
	for _, name := range [][]byte{bucketA, bucketK, bucketB, bucketX, bucketT, bucketG, bucketJ, bucketM} {
		x, y := a.Bucket(name), b.Bucket(name)
		if x == nil && y == nil && bytes.Equal(name, bucketJ) {
			continue
		}
		if x == nil || y == nil {
			return fmt.Errorf("%w: bucket %s is missing", ErrDamaged, name)
		}
		if x.Sequence() != y.Sequence() {
			return fmt.Errorf("%w: bucket %s counts differently", ErrDamaged, name)
		}
		cx, cy := x.Cursor(), y.Cursor()
		kx, vx := cx.First()
		ky, vy := cy.First()
		for n := 0; kx != nil || ky != nil; n++ {
			if n%1024 == 0 && !alive() {
				return errStopped
			}
			own := bytes.Equal(name, bucketM) &&
				(bytes.Equal(kx, keyMagic) || bytes.Equal(kx, keyInode) || bytes.Equal(kx, keySum))
			if !bytes.Equal(kx, ky) || !bytes.Equal(vx, vy) && !own {
				return fmt.Errorf("%w: bucket %s is another one at key %x", ErrDamaged, name, kx)
			}
			kx, vx = cx.Next()
			ky, vy = cy.Next()
		}
	}
	return nil
}
