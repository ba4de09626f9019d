package record

// checkDate wants an RFC 3339 full-date that exists in the (proleptic)
// Gregorian calendar.
func checkDate(value []byte) Reason {
	if len(value) != len("2006-01-02") || value[4] != '-' || value[7] != '-' ||
		!allDigits(value[:4]) || !allDigits(value[5:7]) || !allDigits(value[8:]) {
		return reasonDate
	}
	year := decimal(value[:4])
	month, day := decimal(value[5:7]), decimal(value[8:])
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return reasonDate
	}
	return ""
}

func decimal(digits []byte) int {
	n := 0
	for _, c := range digits {
		n = 10*n + int(c-'0')
	}
	return n
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
