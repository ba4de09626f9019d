package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"reflect"
	"unsafe"
)

// hmacFields are the leading fields of the struct behind crypto/hmac's Hash.
// checkHMAC compares them with the real ones.
type hmacFields struct {
	opad, ipad   []byte
	outer, inner hash.Hash
}

// movedHMACBytes is room for the struct (96 bytes in Go 1.26), two SHA-256
// states (120 each) and two marshalled ones (108 each), each rounded up to 8.
const movedHMACBytes = 640

var errHMACShape = errors.New("the standard library's HMAC state has another shape")

// moveHMAC builds crypto/hmac's HMAC-SHA-256 under key, moves it into mem and
// wipes the original. It is called inside securemem.Do.
//
// hmac.New leaves the padded key on the heap, for as long as the object is in
// use and until a collection after that; and one made per call costs 2.6 µs
// inside securemem.Do. So it is made once and brought into the state in which
// it keeps hash states in place of the key (what Reset does; FIPS 198-1,
// section 6). Then its five parts are copied into guarded memory, like a
// cipher state: the struct, the two hashes, the two saved states. Every
// pointer in the copy leads to guarded memory or to a type's method table, so
// the collector, which does not look there, has nothing to miss.
func moveHMAC(mem, key []byte) (hash.Hash, error) {
	original := hmac.New(sha256.New, key)
	typ, err := checkHMAC(original)
	if err != nil {
		return nil, err
	}
	from := (*hmacFields)(reflect.ValueOf(original).UnsafePointer())
	outerPad, innerPad := from.opad, from.ipad
	original.Reset() // replaces both pads by saved states
	clear(outerPad)
	clear(innerPad)
	defer func() {
		clear(from.opad)
		clear(from.ipad)
		clear(objectBytes(from.outer))
		clear(objectBytes(from.inner))
	}()

	room := arena(mem)
	at := room.take(int(typ.Size()))
	outer, inner := room.copyObject(from.outer), room.copyObject(from.inner)
	opad, ipad := room.copyBytes(from.opad), room.copyBytes(from.ipad)
	if at == nil || outer == nil || inner == nil || opad == nil || ipad == nil {
		return nil, errHMACShape
	}
	copy(at, objectBytes(original))
	*(*hmacFields)(unsafe.Pointer(&at[0])) = hmacFields{opad: opad, ipad: ipad, outer: outer, inner: inner}
	moved := reflect.NewAt(typ, unsafe.Pointer(&at[0])).Interface().(hash.Hash)
	return moved, sameHMAC(moved, original)
}

// sameHMAC is the known-answer test: two messages through both, the second
// after a Reset.
func sameHMAC(moved, original hash.Hash) error {
	for _, message := range []string{"a first message", "another one"} {
		for _, h := range []hash.Hash{moved, original} {
			h.Reset()
			h.Write([]byte(message))
		}
		if !hmac.Equal(moved.Sum(nil), original.Sum(nil)) {
			return errHMACShape
		}
	}
	moved.Reset()
	return nil
}

// checkHMAC makes sure that the struct behind h begins with hmacFields and
// holds no other pointer, and that its hashes hold none.
func checkHMAC(h hash.Hash) (reflect.Type, error) {
	v := reflect.ValueOf(h)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("%w: %s", errHMACShape, v.Type())
	}
	typ, want := v.Type().Elem(), reflect.TypeFor[hmacFields]()
	for i := range typ.NumField() {
		field := typ.Field(i)
		if i >= want.NumField() {
			if !pointerFree(field.Type) {
				return nil, fmt.Errorf("%w: field %s", errHMACShape, field.Name)
			}
			continue
		}
		if w := want.Field(i); field.Name != w.Name || field.Type != w.Type || field.Offset != w.Offset {
			return nil, fmt.Errorf("%w: field %s", errHMACShape, field.Name)
		}
	}
	fields := (*hmacFields)(v.UnsafePointer())
	for _, inner := range []hash.Hash{fields.outer, fields.inner} {
		t := reflect.TypeOf(inner)
		if t.Kind() != reflect.Pointer || !pointerFree(t.Elem()) {
			return nil, fmt.Errorf("%w: %s", errHMACShape, t)
		}
	}
	return typ, nil
}

// pointerFree reports whether no value of type t holds a pointer.
func pointerFree(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return pointerFree(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !pointerFree(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return reflect.Bool <= t.Kind() && t.Kind() <= reflect.Complex128 && t.Kind() != reflect.Uintptr
}

// objectBytes is the memory of the struct that pointer points to.
func objectBytes(pointer any) []byte {
	v := reflect.ValueOf(pointer)
	return unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
}

// arena hands out the rest of some guarded memory, aligned for any object.
type arena []byte

// take returns n bytes, or nil when there is no room or no alignment.
func (a *arena) take(n int) []byte {
	padded := (n + 7) &^ 7
	if padded == 0 || padded > len(*a) || uintptr(unsafe.Pointer(unsafe.SliceData(*a)))%8 != 0 {
		return nil
	}
	b := (*a)[:n:n]
	*a = (*a)[padded:]
	return b
}

func (a *arena) copyBytes(b []byte) []byte {
	to := a.take(len(b))
	copy(to, b)
	return to
}

// copyObject copies a pointer-free struct; the result has h's dynamic type.
func (a *arena) copyObject(h hash.Hash) hash.Hash {
	to := a.copyBytes(objectBytes(h))
	if to == nil {
		return nil
	}
	return reflect.NewAt(reflect.TypeOf(h).Elem(), unsafe.Pointer(&to[0])).Interface().(hash.Hash)
}
