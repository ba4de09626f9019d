package securemem

import "testing"

// TestClassesWasteLittle walks every size there is.
func TestClassesWasteLittle(t *testing.T) {
	sizes := map[int]int{} // :: class → slot size
	for n := 1; n <= sharedSlots; n++ {
		class, size := classOf(n)
		if class < 0 || class >= classes || size < n {
			t.Fatalf("%d bytes: class %d with slots of %d", n, class, size)
		}
		waste := size - n
		if n >= minSlot && n <= exactSlots && waste != 0 {
			t.Errorf("%d bytes waste %d", n, waste)
		}
		if n > exactSlots && waste*8 > size {
			t.Errorf("%d bytes in %d: waste above 12.5 %%", n, size)
		}
		if known, ok := sizes[class]; ok && known != size {
			t.Errorf("class %d has slots of %d and %d bytes", class, known, size)
		}
		sizes[class] = size
	}
	if len(sizes) != classes {
		t.Errorf("%d classes are in use, %d are declared", len(sizes), classes)
	}
	if chunkBytes/minSlot > slotMask+1 {
		t.Error("a chunk has more slots than a Ref can name")
	}
}
