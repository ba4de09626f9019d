package securemem

import (
	"fmt"
	"reflect"
	"unsafe"
)

// A cipher state is moved out of the Go heap by copying its bytes. That is
// sound only while the concrete type holds no pointer: the collector does not
// look into guarded memory, and a copied pointer could dangle. The types are
// the standard library's own, so the shape is checked each time, and [Open]
// tests with known answers that the copy computes what the original does.

// relocate copies the object behind original, a pointer to a pointer-free
// struct, into the key region and wipes the original. moved has original's
// dynamic type; mem is what to give back to the heap.
func relocate(heap *keyHeap, original any) (moved any, mem []byte, err error) {
	from := reflect.ValueOf(original)
	if from.Kind() != reflect.Pointer || from.IsNil() {
		return nil, nil, fmt.Errorf("relocate cipher state: %T is not a pointer", original)
	}
	typ := from.Type().Elem()
	if err := pointerFree(typ); err != nil {
		return nil, nil, fmt.Errorf("relocate cipher state: %s: %w", typ, err)
	}
	mem, err = heap.take(int(typ.Size()))
	if err != nil {
		return nil, nil, fmt.Errorf("relocate cipher state: %w", err)
	}
	copy(mem, stateBytes(original))
	wipeState(original)
	return reflect.NewAt(typ, unsafe.Pointer(unsafe.SliceData(mem))).Interface(), mem, nil
}

// stateBytes is the memory of the struct that pointer points to.
func stateBytes(pointer any) []byte {
	v := reflect.ValueOf(pointer)
	return unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
}

// wipeState zeroes the struct that pointer points to, unless it holds
// pointers: then the collector must not find it half-written.
func wipeState(pointer any) {
	typ := reflect.TypeOf(pointer)
	if typ.Kind() == reflect.Pointer && pointerFree(typ.Elem()) == nil {
		clear(stateBytes(pointer))
	}
}

// pointerFree walks a type and reports where it holds a pointer. It does not
// allocate when it holds none, because it runs inside [Do].
func pointerFree(t reflect.Type) error {
	switch t.Kind() {
	case reflect.Bool,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return nil
	case reflect.Array:
		return pointerFree(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if err := pointerFree(t.Field(i).Type); err != nil {
				return fmt.Errorf("field %s: %w", t.Field(i).Name, err)
			}
		}
		return nil
	}
	return fmt.Errorf("%s: the standard library's cipher state is no longer free of pointers", t.Kind())
}
