package record

// checkPhone wants the international form of ITU-T E.164: a plus sign and two
// to fifteen digits that do not begin with a zero. Whether the number is in
// use, or long enough for its country, is for the client to find out: the
// tables that know it work on strings.
func checkPhone(value []byte) Reason {
	if len(value) < 3 || len(value) > 16 ||
		value[0] != '+' || value[1] == '0' || !allDigits(value[1:]) {
		return reasonPhone
	}
	return ""
}
