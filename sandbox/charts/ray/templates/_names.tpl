{{- define "ray.short" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "ray.long" -}}
{{- $base := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $base .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $base) -}}
{{ .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "ray.selector" -}}
{{- range $key, $value := dict "name" (include "ray.short" .) "instance" .Release.Name -}}
app.kubernetes.io/{{ $key }}: {{ $value }}
{{ end -}}
{{- end -}}

{{- define "ray.labels" -}}
{{ include "ray.selector" . }}
{{- with .Chart.AppVersion -}}
app.kubernetes.io/version: {{ quote . }}
{{ end -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ print .Chart.Name "-" .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* What the metadata of most objects consist of. */}}
{{- define "ray.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "ray.labels" .root | nindent 2 }}
{{- end -}}
